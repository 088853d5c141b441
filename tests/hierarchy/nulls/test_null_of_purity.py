"""Purity under shuffled labels, where few classes have two scored images and latents resemble each other.

The mean then rests on a few lucky pairs of images. Its interval excludes the null too often, so it has none.
"""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import binom
from tests.hierarchy.resampling.measuring import measure

from hsae.hierarchy import resampled_basis
from hsae.hierarchy.coherence.purity import null_purity
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.controls.shuffles import shuffle_labels
from hsae.hierarchy.scored_activations import BasisActivations
from hsae.hierarchy.statistics.ranks import rank_activations
from hsae.hierarchy.study.estimates import JACKKNIFE

N_CLASSES, N_OF_TWO = 300, 20
N_SEEDS = 40
MOST_BEYOND = int(binom.isf(0.002, N_SEEDS, 0.05))
REACH = 1.96


def n_beyond(taxonomy):
    """The seeds of shuffled labels in which purity has an interval that excludes its null."""
    labels = np.concatenate((np.arange(N_CLASSES), np.arange(N_OF_TWO)))
    rng = np.random.default_rng(0)
    z = rng.standard_normal((len(labels), 3)) @ rng.standard_normal((3, 60))  # latents share most of their images
    dense = np.maximum(z - np.quantile(z, 0.95, axis=0), 0).astype(np.float32)
    measured = measure(dense, labels, taxonomy)
    given = BasisActivations("random", rank_activations(sp.csr_array(dense)))
    scoring = ScoringConfig(n_replicates=20, n_tree_shuffles=0)
    found = 0
    for seed in range(N_SEEDS):
        shuffled = replace(measured, labels=shuffle_labels(labels, seed))
        purity = resampled_basis.resampled_headlines(given, shuffled, scoring, check=lambda: None)
        one = purity.replicates["purity_mean"]
        distance = one.value - null_purity(shuffled.labels, shuffled.n_classes)
        found += abs(distance) > REACH * JACKKNIFE * one.replicates.std(ddof=1)  # never, without an interval
    return found


@pytest.mark.parametrize("without_rule", [False, True])
def test_shuffled_labels(make_taxonomy, monkeypatch, without_rule):
    names = [f"c{number:03}" for number in range(N_CLASSES)]
    taxonomy = make_taxonomy([(name, f"g{number % 10}") for number, name in enumerate(names)]
                             + [(f"g{number}", "root") for number in range(10)], names)  # fmt: skip
    if without_rule:
        monkeypatch.setattr(resampled_basis, "MIN_PURE_CLASSES", 0)
    assert (n_beyond(taxonomy) > MOST_BEYOND) == without_rule
