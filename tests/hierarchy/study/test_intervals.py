"""What is compared with what, and the slopes over the layers."""

import numpy as np
import pytest

from hsae.hierarchy.study.estimates import Estimate, Run, combine
from hsae.hierarchy.study.intervals import ComparedGroup, compare_groups, compared_pairs

ONE = Run(0)

CONTROLS = ("neuron", "pca", "shuffled_taxonomy")


def _groups(layers, saes):
    return [
        ComparedGroup(100 * layer + i, f"key-{layer}-{sae}", layer, sae)
        for layer in layers
        for i, sae in enumerate(saes)
    ]


def _columns(groups):
    return [(group.number, basis) for group in groups for basis in ("sae", *CONTROLS)]


def _estimates(rng, groups, n_replicates=20):
    return {
        column: Estimate({ONE: float(rng.random())}, {ONE: rng.random(n_replicates)}, int(rng.integers(1, 9)))
        for column in _columns(groups)
    }


def test_what_is_compared_with_what():
    groups = _groups(range(3), ["relu SAE x8", "topk SAE x8"])
    pairs = set(compared_pairs(groups, _columns(groups)))
    assert len(pairs) == len(list(compared_pairs(groups, _columns(groups))))
    for layer in range(3):
        for i in range(2):
            assert {((100 * layer + i, "sae"), (100 * layer + i, control)) for control in CONTROLS} <= pairs
            if layer:
                assert ((100 * layer + i, "sae"), (100 * (layer - 1) + i, "sae")) in pairs
        assert ((100 * layer + 1, "sae"), (100 * layer, "sae")) in pairs  # topk minus relu
    assert len(pairs) == 3 * 2 * 3 + 2 * 2 + 3


def test_layers_that_were_left_out_are_bridged_and_order_does_not_matter():
    groups = [ComparedGroup(n, f"key {n}", layer, "relu") for n, layer in ((5, 11), (9, 0), (2, 4))]
    expected = [((2, "sae"), (9, "sae")), ((5, "sae"), (2, "sae"))]
    for ordered in (groups, groups[::-1]):
        assert list(compared_pairs(ordered, [(n, "sae") for n, *_ in ordered])) == expected


def test_every_quantity_and_difference_has_its_interval():
    groups = _groups((0, 4), ["a", "b"])
    found = _estimates(np.random.default_rng(0), groups)
    scores, differences, _ = compare_groups(groups, {"purity_mean": found}, 0.9)
    assert {(row.analysis, row.basis) for row in scores} == set(found)
    for row in scores:
        one = found[row.analysis, row.basis]
        assert (row.value, row.low, row.high, row.n_seeds, row.n_folds) == combine([(1.0, one)], 0.9)
        assert row.n == one.n
    assert len(differences) == len(list(compared_pairs(groups, list(found))))
    for between in differences:
        one, other = found[between.analysis, between.basis], found[between.other_analysis, between.other_basis]
        found_of_two = (between.value, between.low, between.high, between.n_seeds, between.n_folds)
        assert found_of_two == combine([(1.0, one), (-1.0, other)], 0.9)
        assert between.n == min(one.n, other.n)


def test_an_analysis_has_the_same_intervals_in_every_study():
    groups = _groups(range(3), ["a", "b"])
    found = _estimates(np.random.default_rng(1), groups)
    whole = compare_groups(groups, {"m": found}, 0.95)
    some = groups[::2]
    numbers = {group.number for group in some}
    part = compare_groups(some, {"m": {key: one for key, one in found.items() if key[0] in numbers}}, 0.95)
    assert set(part[0]) <= set(whole[0])


def test_slopes_are_those_of_a_least_squares_line_per_replicate():
    layers = (0, 2, 3, 7)
    groups = _groups(layers, ["a"])
    found = _estimates(np.random.default_rng(2), groups)
    _, _, (trend,) = compare_groups(groups, {"m": found}, 0.95)
    values = [found[group.number, "sae"].values[ONE] for group in groups]
    replicates = np.stack([found[group.number, "sae"].replicates[ONE] for group in groups])
    assert (trend.analysis, trend.n_layers, trend.n_seeds, trend.n_folds) == (0, 4, 1, 1)
    assert trend.slope == pytest.approx(np.polyfit(layers, values, 1)[0])
    slopes = np.polyfit(layers, replicates, 1)[0]
    assert (trend.high - trend.low) / 2 == pytest.approx(1.959963984540054 * 2 * slopes.std(ddof=1))


def test_one_layer_has_no_slope_and_every_sae_has_its_own():
    assert compare_groups(_groups((3,), ["a"]), {"m": _estimates(np.random.default_rng(3), _groups((3,), ["a"]))}, 0.9)[
        2
    ] == []  # fmt: skip
    groups = _groups((0, 1), ["a", "b"])
    _, _, trends = compare_groups(groups, {"m": _estimates(np.random.default_rng(3), groups)}, 0.9)
    assert [trend.analysis for trend in trends] == [0, 1]
