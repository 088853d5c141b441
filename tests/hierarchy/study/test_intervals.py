"""What is compared with what, and every interval against a plain loop over resamples."""

import hashlib
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.study.intervals import (
    LATENT_METRICS,
    ComparedAnalysis,
    NodeValues,
    compare_analyses,
    compared_pairs,
)

CONTROLS = ("neuron", "pca", "shuffled_taxonomy")
N_RESAMPLES = 20


def _analyses(n_layers, saes):
    return [
        ComparedAnalysis(100 * layer + i, f"key-{layer}-{sae}", layer, sae)
        for layer in range(n_layers)
        for i, sae in enumerate(saes)
    ]


def _columns(analyses):
    return [(analysis.number, basis) for analysis in analyses for basis in ("sae", *CONTROLS)]


def _random_values(rng, analyses, n_nodes):
    shape = (n_nodes, len(_columns(analyses)))
    f1 = np.where(rng.random(shape) < 0.2, 0.0, rng.integers(0, 7, shape) / 6)  # with ties
    return NodeValues(_columns(analyses), f1, (f1 >= 0.5).astype(float), rng.random(n_nodes) < 0.4)


def _random_latents(rng, analyses):
    def of(n):
        defined = rng.random((len(LATENT_METRICS), n)) < 0.8
        values = np.where(defined, rng.integers(0, 5, defined.shape) / 4, np.nan)
        return dict(zip(LATENT_METRICS, values, strict=True))

    return {a.number: {basis: of(int(rng.integers(0, 12))) for basis in ("sae", "neuron", "pca")} for a in analyses}


def _means_by_a_loop(values, seed):
    if not len(values):
        return np.full(N_RESAMPLES, np.nan)
    draws = np.random.Generator(np.random.PCG64(seed)).integers(0, len(values), size=(N_RESAMPLES, len(values)))
    return np.array([values[drawn].mean() for drawn in draws])


def _slow_reference(analyses, nodes, latents, seed, confidence):
    """(value, resampled means, n) of every quantity by metric and column."""
    found = {}
    per_node = {
        "best_f1_mean": (nodes.f1, slice(None)),
        "best_f1_inner_mean": (nodes.f1, nodes.is_inner),
        "share_nodes_f1": (nodes.answered, slice(None)),
    }
    for metric, (values, which) in per_node.items():
        for place, column in enumerate(nodes.columns):
            mine = values[which, place]
            found[metric, column] = (mine.mean() if len(mine) else np.nan, _means_by_a_loop(mine, seed), len(mine))
    for analysis in analyses:
        for basis, scores in latents[analysis.number].items():
            digest = hashlib.sha256(f"{analysis.key} {basis}".encode()).digest()
            own = [seed, int.from_bytes(digest[:16], "big")]
            for name, values in scores.items():
                mine = values[~np.isnan(values)]
                value = mine.mean() if len(mine) else np.nan
                found[LATENT_METRICS[name], (analysis.number, basis)] = (value, _means_by_a_loop(mine, own), len(mine))
    return found


def _interval(means, confidence):
    return np.percentile(means, [50 * (1 - confidence), 50 * (1 + confidence)])


@examples(15)
@given(st.integers(0, 2**20), st.integers(1, 3), st.integers(1, 3), st.integers(0, 9), st.floats(0.5, 0.99))
def test_every_interval_equals_a_plain_loop(seed, n_layers, n_saes, n_nodes, confidence):
    rng = np.random.default_rng(seed)
    analyses = _analyses(n_layers, [f"topk x{i}" for i in range(n_saes)])
    nodes, latents = _random_values(rng, analyses, n_nodes), _random_latents(rng, analyses)
    done = []
    scores, differences = compare_analyses(
        analyses, nodes, latents.__getitem__, seed=seed, n_resamples=N_RESAMPLES, confidence=confidence,
        on_analysis=done.append,
    )  # fmt: skip
    expected = _slow_reference(analyses, nodes, latents, seed, confidence)
    assert done == list(range(1, len(analyses) + 1))
    assert {(score.metric, (score.analysis, score.basis)) for score in scores} == set(expected)
    assert len(scores) == len(expected)
    for score in scores:
        value, means, n = expected[score.metric, (score.analysis, score.basis)]
        np.testing.assert_allclose(score[3:6], [value, *_interval(means, confidence)], atol=1e-12)
        assert score.n == n
    pairs = list(compared_pairs(analyses, nodes.columns))
    known = {(metric, *pair) for metric in {key[0] for key in expected} for pair in pairs
             if (metric, pair[0]) in expected and (metric, pair[1]) in expected}  # fmt: skip
    assert len(differences) == len(known)
    for row in differences:
        one, other = (row.analysis, row.basis), (row.other_analysis, row.other_basis)
        known.remove((row.metric, one, other))
        mine, theirs = expected[row.metric, one], expected[row.metric, other]
        wanted = [mine[0] - theirs[0], *_interval(mine[1] - theirs[1], confidence)]
        np.testing.assert_allclose(row[5:8], wanted, atol=1e-12)
        assert row.n == min(mine[2], theirs[2])


def test_what_is_compared_with_what():
    analyses = _analyses(3, ["relu SAE x8", "topk SAE x8"])
    pairs = set(compared_pairs(analyses, _columns(analyses)))
    assert len(pairs) == len(list(compared_pairs(analyses, _columns(analyses))))
    for layer in range(3):
        for i in range(2):
            assert {((100 * layer + i, "sae"), (100 * layer + i, control)) for control in CONTROLS} <= pairs
            if layer:
                assert ((100 * layer + i, "sae"), (100 * (layer - 1) + i, "sae")) in pairs
        assert ((100 * layer + 1, "sae"), (100 * layer, "sae")) in pairs  # topk minus relu
    assert len(pairs) == 3 * 2 * 3 + 2 * 2 + 3


def test_layers_that_were_left_out_are_bridged_and_order_does_not_matter():
    analyses = [ComparedAnalysis(n, f"key {n}", layer, "relu") for n, layer in ((5, 11), (9, 0), (2, 4))]
    expected = [((2, "sae"), (9, "sae")), ((5, "sae"), (2, "sae"))]
    for ordered in (analyses, analyses[::-1]):
        assert list(compared_pairs(ordered, [(n, "sae") for n, *_ in ordered])) == expected


def test_an_analysis_has_the_same_intervals_in_every_study():
    rng = np.random.default_rng(0)
    analyses = _analyses(3, ["a", "b"])
    nodes, latents = _random_values(rng, analyses, 30), _random_latents(rng, analyses)

    def scores_of(some):
        chosen = [place for place, (number, _) in enumerate(nodes.columns) if number in {a.number for a in some}]
        columns = [nodes.columns[place] for place in chosen]
        part = NodeValues(columns, nodes.f1[:, chosen], nodes.answered[:, chosen], nodes.is_inner)
        found = compare_analyses(some, part, latents.__getitem__, seed=3, n_resamples=50, confidence=0.9,
                                 on_analysis=lambda _: None)  # fmt: skip
        return {row[:3]: tuple(map(repr, row[3:])) for row in found[0]}, {row[:5]: row[5:] for row in found[1]}

    whole = scores_of(analyses)
    for some in combinations(analyses, 2):
        scores, differences = scores_of(list(some[::-1]))
        assert scores.items() <= whole[0].items()
        for key in differences.keys() & whole[1].keys():
            np.testing.assert_array_equal(differences[key], whole[1][key])


def test_a_basis_minus_its_equal_is_exactly_nothing():
    analyses = _analyses(1, ["a"])
    f1 = np.random.default_rng(1).random((50, 1)) @ np.ones((1, 4))
    nodes = NodeValues(_columns(analyses), f1, (f1 >= 0.5).astype(float), np.ones(50, dtype=bool))
    constant = {basis: dict.fromkeys(LATENT_METRICS, np.full(n, 0.1)) for basis, n in (("sae", 7), ("neuron", 9))}
    _, differences = compare_analyses(analyses, nodes, lambda _: constant, seed=0, n_resamples=30, confidence=0.95,
                                      on_analysis=lambda _: None)  # fmt: skip
    assert len(differences) == 3 * 3 + 5
    assert {(row.value, row.low, row.high) for row in differences} == {(0.0, 0.0, 0.0)}


def test_nan_at_a_node_is_refused():
    analyses = _analyses(1, ["a"])
    values = np.full((3, 4), np.nan)
    with pytest.raises(UserError, match="NaN"):
        compare_analyses(analyses, NodeValues(_columns(analyses), values, values, np.ones(3, dtype=bool)), lambda _: {},
                         seed=0, n_resamples=5, confidence=0.9, on_analysis=lambda _: None)  # fmt: skip
