"""Activations with latents of known behaviour on a piece of WordNet, in which dogs and cats have two parents each.

Every class has the same number of images; image number `k` of a class is told by its strength, so that every score of
a planted latent can be counted by hand from the number of classes under its node.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from hsae.taxonomy import InducedTaxonomy, Taxonomy, induce

N_PER_CLASS = 8
N_NOISY = 6
"""Images of every class of its node on which the noisy latent fires; elsewhere it fires, weakly, on one of a class."""

MEMBERS = {
    "dog.n.01": ("poodle.n.01", "beagle.n.01", "dalmatian.n.02", "pug.n.01", "siberian_husky.n.01"),
    "wild_canines": ("timber_wolf.n.01", "arctic_fox.n.01"),
    "domestic_cat.n.01": ("siamese_cat.n.01", "persian_cat.n.01", "tabby.n.01"),
    "big_cat.n.01": ("lion.n.01", "tiger.n.02"),
    "bird.n.01": ("robin.n.01", "bald_eagle.n.01", "ostrich.n.02", "hummingbird.n.01"),
    "stringed_instrument.n.01": ("banjo.n.01", "violin.n.01", "acoustic_guitar.n.01"),
    "edible_fruit.n.01": ("banana.n.02", "granny_smith.n.01"),
}
CLASSES = tuple(name for names in MEMBERS.values() for name in names)
UNIONS = {
    "canine.n.02": ("dog.n.01", "wild_canines"),
    "domestic_animal.n.01": ("dog.n.01", "domestic_cat.n.01"),
    "feline.n.01": ("domestic_cat.n.01", "big_cat.n.01"),
}
"""Nodes that overlap: dogs are canines and domestic animals, domestic cats are felines and domestic animals."""

CLEAN = (
    "dog.n.01",
    "canine.n.02",
    "domestic_animal.n.01",
    "feline.n.01",
    "bird.n.01",
    "stringed_instrument.n.01",
    "pug.n.01",
)
NOISY = ("canine.n.02", "bird.n.01", "domestic_animal.n.01")
ABSORBED, ABSORBING = "dog.n.01", "poodle.n.01"
POLYSEMANTIC = ("bird.n.01", "stringed_instrument.n.01")


@dataclass(frozen=True, slots=True)
class Planted:
    """What `score_bases` takes, and the latent's number by (behaviour, node)."""

    z: sp.csr_array
    labels: np.ndarray
    neurons: np.ndarray
    taxonomy: InducedTaxonomy
    latents: dict[tuple[str, str], int]

    def node(self, name: str) -> int:
        """Number of the node of that name."""
        return [synset.name for synset in self.taxonomy.synsets].index(name)

    def is_under(self, name: str) -> np.ndarray:
        """bool[n_images]"""
        return self.taxonomy.closure.toarray()[self.labels, self.node(name)] > 0


def classes_of(name: str) -> tuple[str, ...]:
    """The classes under a node, as written down above."""
    if name in UNIONS:
        return tuple(member for part in UNIONS[name] for member in classes_of(part))
    return MEMBERS.get(name, (name,))


def plant_latents(wordnet: Taxonomy, seed: int) -> Planted:
    """`seed` orders the images and draws the neurons; what the latents do hangs on class and number alone."""
    taxonomy = induce(wordnet, [wordnet.resolve(name).id for name in CLASSES])
    position = {taxonomy.synsets[node].name: place for place, node in enumerate(taxonomy.classes)}
    rng = np.random.default_rng(seed)
    image = rng.permutation(len(CLASSES) * N_PER_CLASS)
    name = np.array(CLASSES)[image // N_PER_CLASS]
    number = image % N_PER_CLASS
    strength = 2 - number / N_PER_CLASS

    def within(names: Iterable[str]) -> np.ndarray:
        return np.isin(name, [member for one in names for member in classes_of(one)])

    columns = {("clean", node): within([node]) * strength for node in CLEAN}
    for node in NOISY:
        inside = within([node])
        columns["noisy", node] = np.where(inside, (number < N_NOISY) * strength, (number == 0) * 0.25)
    columns["absorbed", ABSORBED] = (within([ABSORBED]) & (name != ABSORBING)) * strength
    columns["absorbing", ABSORBING] = within([ABSORBING]) * strength
    columns["polysemantic", "+".join(POLYSEMANTIC)] = within(POLYSEMANTIC) * strength
    columns["dead", ""] = np.zeros(len(image))
    columns["always on", ""] = strength
    labels = np.array([position[one] for one in name])
    is_under = taxonomy.closure.toarray()[labels] > 0
    mixed = rng.standard_normal((is_under.shape[1], 32))
    neurons = is_under @ mixed + rng.standard_normal((len(labels), 32))
    return Planted(
        z=sp.csr_array(np.stack(list(columns.values()), axis=1).astype(np.float32)),
        labels=labels,
        neurons=(neurons - neurons.mean(axis=0)).astype(np.float32),
        taxonomy=taxonomy,
        latents={key: latent for latent, key in enumerate(columns)},
    )
