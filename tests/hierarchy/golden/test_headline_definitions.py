"""A headline number is one number: the layer's row and the value beside its replicates are computed by other code."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.resampling.measuring import label_matrix
from tests.hierarchy.scoring import score_all

from hsae.hierarchy.resampling.resampled import LAYER_NUMBERS
from hsae.hierarchy.scored_activations import ImageParts

OF_LAYER = {
    "coherence_excess": "coherence_excess",
    "coherence_excess_weighted": "coherence_excess_weighted",
    "f1_adjusted_inner_mean": "best_f1_adjusted_inner_mean",
    "f1_adjusted_mean": "best_f1_adjusted_mean",
    "purity_mean": "purity",
    "lch_excess_mean": "lch_excess_mean",
}
OF_TREES = {name: name for name in ("lch_height_mean", "coverage_mean", *LAYER_NUMBERS)}
OF_TREES["share_nodes_f1"] = "f1_node_share"


@examples(25)
@given(
    seed=st.integers(0, 2**20),
    several=st.booleans(),
    held_out=st.booleans(),
    rule=st.sampled_from(["topk", "rate", "mass"]),
)
def test_the_row_of_a_layer_and_the_value_of_its_replicates_agree(random_case, seed, several, held_out, rule):
    """Also where classes have no scored images, images several labels, and latents are chosen on other images."""
    case, rng = random_case(seed), np.random.default_rng(seed)
    n_images = len(case.labels)
    labels = label_matrix(case.labels, len(case.taxonomy.classes), rng) if several else case.labels
    parts = None
    if held_out and n_images >= 3:
        part = np.arange(n_images) % 3
        parts = ImageParts(*(np.flatnonzero(part == place) for place in range(3)))
    neurons = rng.standard_normal((n_images, 3)).astype(np.float32)
    results = score_all(
        case.z, labels, case.taxonomy, neurons,
        seed=seed % 1000, parts=parts, association=rule, controls=("random",), n_random=2, n_shuffles=1,
    )  # fmt: skip
    for result in results:
        layer = dataclasses.asdict(result.layer)
        for metric, quantity in result.resampled.replicates.items():
            _agree(quantity.value, layer[OF_LAYER[metric]], f"{result.basis}: {metric}")
        for metric, trees in result.resampled.trees.items():
            _agree(trees.value, layer[{**OF_LAYER, **OF_TREES}[metric]], f"{result.basis}, trees: {metric}")
        assert set(result.resampled.replicates) == set(OF_LAYER)


def _agree(value, expected, what):
    assert math.isnan(value) == math.isnan(expected), what
    assert value == pytest.approx(expected, abs=1e-12, rel=1e-12, nan_ok=True), what
