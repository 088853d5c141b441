"""A model in which known directions carry known classes, an SAE that has them, and a tree above the classes."""

from dataclasses import dataclass

import numpy as np
import torch

from hsae.interventions.edits import TokenPlaces
from hsae.interventions.effects import Tree
from hsae.interventions.measure import ScoredBatch
from hsae.interventions.readouts import LabelledRows, LinearReadout, ReadRows, train_probe
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.taxonomy import InducedTaxonomy

D_MODEL = 12
NODE, UNUSED, FIRST, SECOND = 0, 1, 2, 3
"""Latents: one direction carries the node, one is correlated with it but not read, two tell classes apart within."""
EDGES = [
    ("animal", "thing"), ("tool", "thing"), ("bird", "animal"), ("fish", "animal"),
    ("hen", "bird"), ("owl", "bird"), ("eel", "fish"), ("cod", "fish"), ("saw", "tool"), ("axe", "tool"),
]  # fmt: skip
CLASSES = ("hen", "owl", "eel", "cod", "saw", "axe")
PLACES = TokenPlaces((0,))
ROWS = ReadRows(n_prefix=1, has_class_token=True)


class UsesAllButOne:
    """The block after the edited layer: it drops the unused direction, and mixes in a little of the patches' mean."""

    def resume(self, stream, start, stop):
        assert start <= stop <= 1
        if start == stop:
            return stream
        kept = stream.clone()
        kept[..., UNUSED] = 0
        return kept + 0.01 * kept[:, 1:].mean(1, keepdim=True)


@dataclass
class Planted:
    taxonomy: InducedTaxonomy
    sae: SparseAutoencoder
    tree: Tree
    stream: torch.Tensor
    labels: np.ndarray
    probe: LinearReadout

    def node(self, name: str) -> int:
        return next(node for node, synset in enumerate(self.taxonomy.synsets) if synset.name == name)

    def batches(self, size: int = 64):
        for start in range(0, len(self.labels), size):
            here = slice(start, start + size)
            yield ScoredBatch(UsesAllButOne(), self.stream[here], self.labels[here])


def identity_sae(d_model: int = D_MODEL) -> SparseAutoencoder:
    """Latent j is the positive part of neuron j."""
    sae = SparseAutoencoder(SaeConfig(kind="relu", expansion=1), d_model)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.eye(d_model))
        sae.decoder_weight.copy_(torch.eye(d_model))
        sae.input_scale.fill_(0.5)
    return sae.requires_grad_(False)


def planted(taxonomy: InducedTaxonomy, n_each: int = 40, seed: int = 0) -> Planted:
    """Images of six classes; `bird` is told from the others by one direction alone."""
    rng = np.random.default_rng(seed)
    names = [taxonomy.synsets[node].name for node in taxonomy.classes]
    position = {name: place for place, name in enumerate(names)}
    kinds = np.repeat(np.arange(len(CLASSES)), n_each)
    x = rng.normal(0, 0.05, (len(kinds), 4, D_MODEL)).astype(np.float32)
    bird = kinds < 2
    x[bird, :, NODE] += 3
    x[bird, :, UNUSED] += 3
    # Without its direction a hen is an eel, and an owl a cod: the others are told apart by directions of their own.
    x[np.isin(kinds, (0, 2)), :, FIRST] += 2
    x[np.isin(kinds, (1, 3)), :, SECOND] += 2
    x[kinds == 4, :, 4] += 2
    x[kinds == 5, :, 5] += 2
    labels = np.array([position[CLASSES[kind]] for kind in kinds])
    stream = torch.from_numpy(x)
    final = ROWS(UsesAllButOne().resume(stream, 0, 1)).numpy()
    is_train = rng.permutation(len(labels)) % 2 == 0
    train = LabelledRows(final[is_train], labels[is_train])
    select = LabelledRows(final[~is_train], labels[~is_train])
    probe = train_probe(train, select, len(names), ROWS, torch.device("cpu"))
    tree = Tree.of(taxonomy)
    return Planted(taxonomy, identity_sae(), tree, stream[~is_train], labels[~is_train], probe)
