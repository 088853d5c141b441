"""The tables of scores of every basis, against loops over all pairs, nodes and latents."""

import math

import numpy as np
import pytest
from hypothesis import given
from scipy.stats import false_discovery_control
from tests.examples import examples
from tests.hierarchy.all_bases import CONTROLS, assert_same, run, seeds, untrained

from hsae.hierarchy.controls.bases import BASES as CONTROL_CLASSES
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.hierarchy.controls.shuffles import shuffle_labels, shuffle_taxonomy
from hsae.hierarchy.controls.thresholds import Densities, thresholded
from hsae.hierarchy.scores.adjusted_f1 import adjusted_f1, node_adjusted_f1
from hsae.hierarchy.scores.latent_scores import mean_lca_depth
from hsae.hierarchy.scores.monosemanticity import monosemanticity
from hsae.hierarchy.scores.node_scores import iter_node_scores
from hsae.hierarchy.scores.pair_sums import NodeScores
from hsae.hierarchy.scores.ranking_scores import ranking_scores
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.hierarchy.statistics.ranks import rank_activations, rank_columns


@examples(25)
@given(seed=seeds)
def test_the_tables_agree_with_the_scores_of_all_pairs(random_case, seed):
    case = random_case(seed)
    results = run(case, seed=seed)
    sae = results[0]
    stored = ClassSums.from_arrays(sae.class_sums.to_arrays())
    blocks = [scores for _, scores in iter_node_scores(stored, case.taxonomy.closure)]
    for name in NodeScores.__dataclass_fields__:
        everything = np.concatenate([getattr(block, name) for block in blocks])
        at = (sae.nodes.latent, sae.nodes.node)
        np.testing.assert_array_equal(getattr(sae.nodes, name), everything[at], err_msg=name)
        if name in ("f1", "f1_adjusted", "precision", "recall", "auroc"):
            label = sae.latents.label
            expected = np.where(label >= 0, everything[np.arange(len(label)), label], np.nan)
            np.testing.assert_array_equal(getattr(sae.latents, f"label_{name}"), expected, err_msg=name)
    fires = case.dense > 0
    with np.errstate(invalid="ignore"):
        mean = case.dense.sum(axis=0, dtype=np.float64) / fires.sum(axis=0)
    np.testing.assert_allclose(sae.latents.mean_activation, mean, rtol=1e-12)
    np.testing.assert_array_equal(sae.latents.is_dead, ~fires.any(axis=0))
    np.testing.assert_array_equal(sae.latents.density, fires.mean(axis=0))
    peak = case.dense.max(axis=0).astype(np.float64)
    np.testing.assert_array_equal(sae.latents.max_activation, np.where(peak > 0, peak, np.nan))
    assert all(result.class_sums is None for result in results[1:])
    without = [result.basis.startswith("shuffled") or result.seed > 0 for result in results]
    assert [result.latents is None for result in results] == without
    assert_same(results, run(case, seed=seed))


@examples(15)
@given(seed=seeds)
def test_every_basis_is_ranked_with_its_own_labels_and_placed_by_every_rule(random_case, seed):
    case = random_case(seed)
    n_classes = len(case.taxonomy.classes)
    seed, n_latents = seed % 1000, case.z.shape[1]
    densities = Densities.of((case.dense > 0).sum(axis=0))
    given = BaselineInputs(case.neurons, case.labels, case.taxonomy, n_latents, untrained=untrained(case))

    def ranked_of(name, draw):
        columns = CONTROL_CLASSES[name].columns(given, seed + draw)
        n_fire = densities.for_columns(columns.n_columns, all_fire=name == "class_mean")
        return rank_columns(thresholded(columns, columns, n_fire)[1])

    for result in run(case, seed=seed, association="mass"):
        is_control = result.basis in CONTROLS
        ranked = ranked_of(result.basis, result.seed) if is_control else rank_activations(case.z)
        labels = {
            "shuffled_labels": lambda result=result: shuffle_labels(case.labels, result.seed),
            "shuffled_taxonomy": lambda result=result: shuffle_taxonomy(case.labels, n_classes, result.seed),
        }.get(result.basis, lambda: case.labels)()
        expected = ranking_scores(ranked, labels, case.taxonomy.closure, result.nodes.latent, result.nodes.node)  # type: ignore[arg-type]
        for name in ("average_precision", "best_f1", "best_threshold"):
            np.testing.assert_array_equal(getattr(result.nodes, name), getattr(expected, name), err_msg=name)
        assert not (result.nodes.best_f1 < result.nodes.f1).any()
        if result.latents is None:
            assert list(result.places) == ["mass"]
            continue
        assert list(result.places) == ["topk", "rate", "mass"]
        np.testing.assert_array_equal(result.places["mass"].lch, result.latents.lch)
        np.testing.assert_array_equal(result.latents.monosemanticity, monosemanticity(ranked, case.neurons))
        depth = mean_lca_depth(ranked.top_images, case.labels, case.taxonomy)
        np.testing.assert_array_equal(result.latents.lca_depth_mean, depth)


def test_other_embeddings_change_the_monosemanticity_alone(planted_case):
    embeddings = np.random.default_rng(1).standard_normal((len(planted_case.labels), 7)).astype(np.float32)
    own, other = (run(planted_case, embeddings=given)[0].latents.columns() for given in (None, embeddings))
    changed = [
        name for name in own if not np.array_equal(own[name], other[name], equal_nan=own[name].dtype.kind == "f")
    ]
    assert changed == ["monosemanticity"]
    # Planted latents fire on one node, and its images' neurons are similar.
    assert np.median(own["monosemanticity"]) > np.median(other["monosemanticity"]) + 0.1


@examples(25)
@given(seed=seeds)
def test_layer_rows_equal_loops(random_case, seed):
    case = random_case(seed)
    sae, *others = run(case, n_shuffles=0)
    check_layer_row(sae, case)
    assert {result.layer.n_nodes for result in others} == {sae.layer.n_nodes}


def check_layer_row(sae, case):
    layer, latents = sae.layer, sae.latents
    heights = latents.lch_height[~np.isnan(latents.lch_height)]
    assert layer.n_associated_latents == len(heights)
    assert layer.n_dead == latents.is_dead.sum()
    assert layer.l0_mean == pytest.approx(latents.n_fire.sum() / len(case.labels))
    coverage = latents.coverage[latents.lch >= 0]
    for value, expected in (
        (layer.lch_height_mean, heights.mean() if len(heights) else np.nan),
        (layer.lch_height_median, np.median(heights) if len(heights) else np.nan),
        (layer.lch_height_q25, np.quantile(heights, 0.25) if len(heights) else np.nan),
        (layer.lch_height_q75, np.quantile(heights, 0.75) if len(heights) else np.nan),
        (layer.coverage_mean, coverage.mean() if len(coverage) else np.nan),
        (layer.coverage_median, np.median(coverage) if len(coverage) else np.nan),
    ):
        assert value == pytest.approx(expected, nan_ok=True)
    under = case.is_under()
    n_under, n_images = under.sum(axis=0), len(case.labels)
    by_images = {}
    for node in sorted(range(len(n_under)), key=lambda node: (-case.taxonomy.depth[node], node)):
        by_images.setdefault(under[:, node].tobytes(), node)
    nodes = sorted(node for node in by_images.values() if 0 < n_under[node] < n_images)
    blocks = [scores for _, scores in iter_node_scores(sae.class_sums, case.taxonomy.closure)]
    f1, p = (np.concatenate([getattr(b, name) for b in blocks]) for name in ("f1", "p"))
    n_alive = int((~latents.is_dead).sum())
    p_node = [1 - (1 - min([*p[~np.isnan(p[:, node]), node], 1.0])) ** max(n_alive, 1) for node in nodes]
    q_node = dict(zip(nodes, false_discovery_control(p_node), strict=True)) if nodes else {}
    best, by_height = [], {}
    for node in nodes:
        best.append(max(f1[~np.isnan(f1[:, node]), node], default=0.0))
        has_q = bool(q_node[node] < 0.01)
        height = int(case.taxonomy.height[node])
        counts = by_height.get(height, (0, 0, 0))
        by_height[height] = (counts[0] + 1, counts[1] + (best[-1] >= 0.5), counts[2] + has_q)
    assert layer.n_nodes == len(nodes)
    assert layer.by_height == by_height
    assert layer.best_f1_mean == pytest.approx(np.mean(best) if best else np.nan, nan_ok=True)
    for share, place in ((layer.f1_node_share, 1), (layer.q_node_share, 2)):
        expected = sum(counts[place] for counts in by_height.values()) / len(nodes) if nodes else np.nan
        assert share == pytest.approx(expected, nan_ok=True)
    n_classes = (np.bincount(case.labels, minlength=len(case.taxonomy.classes)) > 0) @ case.taxonomy.closure.toarray()
    adjusted = node_adjusted_f1(np.array(best), n_under[nodes], n_images)
    strata = {"single": n_classes[nodes] == 1, "pair": n_classes[nodes] == 2, "inner": n_classes[nodes] >= 3}
    assert layer.n_inner_nodes == strata["inner"].sum()
    means = {f"best_f1_adjusted_{name}_mean": adjusted[is_in] for name, is_in in strata.items()}
    means |= {"best_f1_adjusted_mean": adjusted, "best_f1_inner_mean": np.array(best)[strata["inner"]]}
    for name, values in means.items():
        assert getattr(layer, name) == pytest.approx(values.mean() if len(values) else np.nan, nan_ok=True), name
    reach = [
        1 - math.comb(len(f1) - g, layer.n_rarefied) / math.comb(len(f1), layer.n_rarefied)
        for g in ((adjusted_f1(f1[:, node], np.full(len(f1), n_under[node]), n_images) >= 0.5).sum() for node in nodes)
    ]
    assert layer.rarefied_node_share == pytest.approx(np.mean(reach) if reach else np.nan, nan_ok=True)
