"""Latents planted at the levels of a tree are found there, and memories of images are not credited with a tree.

27 classes in 9 groups in 3 kingdoms; see `planted_case`.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from tests.hierarchy.resampling.measuring import measure
from tests.hierarchy.scoring import score_all

from hsae.hierarchy.controls.shuffles import shuffle_taxonomy
from hsae.hierarchy.resampling.deleted_classes import kept_classes, replicate_headlines
from hsae.hierarchy.scored_activations import ImageParts
from hsae.hierarchy.study.estimates import JACKKNIFE

LEVELS = {
    "kingdoms": [f"k{kingdom}" for kingdom in range(3)],
    "groups": [f"k{kingdom}g{group}" for kingdom in range(3) for group in range(3)],
    "classes": [f"k{kingdom}g{group}c{leaf}" for kingdom in range(3) for group in range(3) for leaf in range(3)],
}
REACH = 1.96
N_TREES, MOST_BEYOND = 100, 11
"""P(X > 11) is 0.4 % for 100 draws at 5 %."""


def number_of(taxonomy, name):
    return [synset.name for synset in taxonomy.synsets].index(name)


def planted_at(case, names, rng):
    """One latent for each node: it fires on 90 % of the images under it, and on 1 % of the others."""
    under = case.is_under()[:, [number_of(case.taxonomy, name) for name in names]] > 0
    fires = rng.random(under.shape) < np.where(under, 0.9, 0.01)
    return (fires * (1 + rng.exponential(size=under.shape))).astype(np.float32)


def halves(case):
    """Every second image of a class selects, the others are scored; none trains."""
    place = np.arange(len(case.labels)) % 2
    return ImageParts(np.arange(0), np.flatnonzero(place == 0), np.flatnonzero(place == 1))


@pytest.fixture(scope="module")
def by_level(planted_case):
    """The results of one SAE for each level."""
    case, found = planted_case, {}
    for level, names in LEVELS.items():
        z = sp.csr_array(planted_at(case, names, np.random.default_rng(1)))
        found[level] = score_all(
            z, case.labels, case.taxonomy, case.neurons, parts=halves(case), controls=(), n_shuffles=0, n_replicates=50
        )[0]
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_every_planted_node_is_found_on_images_that_chose_nothing(by_level, planted_case, level):
    """Of six images of a class a latent that fires on 90 % may miss four: one class of the 27 may not pass its test."""
    nodes, passes = by_level[level].nodes, []
    for latent, name in enumerate(LEVELS[level]):
        row = np.flatnonzero(nodes.is_node_best & (nodes.node == number_of(planted_case.taxonomy, name)))
        assert nodes.latent[row].tolist() == [latent], name
        passes.append(nodes.q_node[row[0]] < 0.01)
    assert passes.count(False) <= (level == "classes")


def test_coherence_excess_rises_with_the_level(by_level):
    """The difference has an interval of its own: the same classes are deleted on both sides."""
    kingdoms, groups = (by_level[level].resampled.replicates["coherence_excess"] for level in ("kingdoms", "groups"))
    assert kingdoms.value > half_interval(kingdoms.replicates)
    assert groups.value - kingdoms.value > half_interval(groups.replicates - kingdoms.replicates)
    purity = [by_level[level].layer.purity for level in LEVELS]
    assert purity == sorted(purity)


def half_interval(replicates):
    return REACH * JACKKNIFE * replicates.std(ddof=1)


def exemplars(case, seed):
    """One latent per training image: it fires on the tenth of the other images that is most like it.

    Images are like one another if they are of one class, and by chance.
    """
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((27, 16))
    x = centre[case.labels] + 0.8 * rng.standard_normal((len(case.labels), 16))
    x -= x.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    trains = np.arange(len(x)) % 3 == 0
    products = x[~trains] @ x[trains].T
    cut = np.quantile(products, 0.9, axis=0)
    return np.maximum(products - cut, 0).astype(np.float32), case.labels[~trains]


@pytest.mark.slow
def test_one_latent_per_image_has_no_hierarchy_that_its_images_lack(planted_case):
    """Classes are apart from one another, but at random places of the tree: 0 within the interval, for 100 trees."""
    z, labels = exemplars(planted_case, seed=0)
    keep = kept_classes(planted_case.taxonomy, 50, seed=0)
    beyond, purity = 0, []
    for seed in range(N_TREES):
        measured = measure(z, shuffle_taxonomy(labels, 27, seed), planted_case.taxonomy)
        found = replicate_headlines(measured, keep)
        excess = found["coherence_excess"]
        beyond += abs(excess.value) > half_interval(excess.replicates)
        purity.append(found["purity_mean"].value)
    assert beyond <= MOST_BEYOND
    assert min(purity) > 0.2, "they know the classes all the same: images at random have 0.03"
