import dataclasses
import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control
from tests.examples import examples
from tests.hierarchy.scoring import score_all, score_one

from hsae.errors import JobCancelledError, UserError
from hsae.hierarchy.config import CONTROL_BASES
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
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)
N_RANDOM = 3
CONTROLS = [basis for basis in CONTROL_BASES for _ in range(N_RANDOM if basis == "random" else 1)]
BASES = ["sae", *CONTROLS, "shuffled_labels", "shuffled_labels", "shuffled_taxonomy", "shuffled_taxonomy"]


def untrained(case):
    """Latents that fire more often than the SAE's, on other images."""
    rng = np.random.default_rng(case.labels.shape[0])
    dense = rng.exponential(size=case.dense.shape) * (rng.random(case.dense.shape) < 0.7)
    return sp.csr_array(dense.astype(np.float32))


def run(case, **options):
    options = {"controls": CONTROL_BASES, "n_random": N_RANDOM, "untrained": untrained(case), **options}
    return score_all(case.z, case.labels, case.taxonomy, case.neurons, **options)


def own_numbers(layer):
    """Without what depends on which other bases are scored, and without the p-value that a shuffle does not have."""
    return dataclasses.replace(layer, rarefied_node_share=0.0, n_rarefied=0, coherence_p=0.0)


def assert_same(left, right):
    for first, second in zip(left, right, strict=True):
        assert (first.basis, first.seed) == (second.basis, second.seed)
        assert repr(own_numbers(first.layer)) == repr(own_numbers(second.layer))
        for table in ("nodes", "latents", "edges", "families"):
            if getattr(first, table) is None:
                assert getattr(second, table) is None
                continue
            columns = getattr(second, table).columns()
            for name, values in getattr(first, table).columns().items():
                assert values.dtype == columns[name].dtype
                np.testing.assert_array_equal(values, columns[name], err_msg=name)


def test_planted_latents_are_labelled_with_their_nodes(planted_case):
    results = run(planted_case)
    assert [result.basis for result in results] == BASES
    assert [result.seed for result in results] == [0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 1, 0, 1]
    sae = results[0]
    np.testing.assert_array_equal(sae.latents.label, np.arange(len(planted_case.taxonomy.synsets)))
    assert (sae.latents.label_f1 > 0.8).all()
    assert sae.layer.f1_node_share == 1
    assert sae.layer.q_node_share == 1
    assert sae.layer.n_nodes == 27 + 9 + 3
    assert sae.layer.n_inner_nodes == 9 + 3
    assert sae.layer.by_height == {0: (27, 27, 27), 1: (9, 9, 9), 2: (3, 3, 3)}


def test_controls_score_lower_than_planted_latents(planted_case):
    sae, *others = run(planted_case, n_shuffles=3)
    bases, shuffled = others[: len(CONTROLS)], others[len(CONTROLS) :]
    for result in bases:
        # Exemplars and means are of the scored images themselves, and the ceiling knows their labels.
        share = {"exemplar": 0.95, "kmeans": 0.95, "class_mean": 1.1}.get(result.basis, 0.8)
        assert result.layer.best_f1_mean < share * sae.layer.best_f1_mean, result.basis
    for result in shuffled:
        assert result.layer.best_f1_inner_mean < 0.8 * sae.layer.best_f1_inner_mean
        assert result.layer.lch_height_mean > sae.layer.lch_height_mean
        leaves = result.layer.by_height[0]
        if result.basis == "shuffled_labels":
            assert result.layer.best_f1_mean < 0.5 * sae.layer.best_f1_mean
            assert leaves.n_f1 == 0
        else:
            assert leaves == sae.layer.by_height[0]


def test_the_control_bases_fire_like_the_sae_and_come_with_their_dense_auroc(planted_case):
    sae, *others = run(planted_case)
    assert np.isnan(sae.nodes.auroc_dense).all()
    n_latents, d_model = planted_case.z.shape[1], planted_case.neurons.shape[1]
    n_columns = dict.fromkeys(CONTROLS, n_latents) | {"neuron": 2 * d_model, "pca": 2 * d_model, "class_mean": 39}
    densities = np.sort(sae.latents.density)[::-1]
    for result in others[: len(CONTROLS)]:
        nodes = result.nodes
        assert result.layer.n_latents == n_columns[result.basis]
        assert result.layer.n_images == len(planted_case.labels)
        is_dense = result.seed == 0
        assert (result.latents is not None) == is_dense
        is_defined = ~np.isnan(nodes.auroc) & nodes.is_node_best
        assert is_defined.any()
        assert (~np.isnan(nodes.auroc_dense) == (is_defined if is_dense else False)).all()
        if is_dense:
            assert (nodes.auroc_dense[is_defined] != nodes.auroc[is_defined]).any()
        if is_dense and n_columns[result.basis] == n_latents and result.basis != "untrained":
            # All images are different: every column fires on exactly as many as the latent of its rank.
            np.testing.assert_array_equal(np.sort(result.latents.density)[::-1], densities)
    for result in others[len(CONTROLS) :]:
        assert np.isnan(result.nodes.auroc_dense).all()


def test_further_draws_have_no_rows_of_their_columns(planted_case):
    """They are stored without them: nothing may name a column that is not there."""
    draws = [result for result in run(planted_case) if result.basis == "random"]
    assert [draw.seed for draw in draws] == list(range(N_RANDOM))
    first, *repeats = draws
    assert len(first.edges.parent) > 0
    for draw in repeats:
        assert draw.latents is None
        assert len(draw.edges.parent) == len(draw.families.parent) == 0
        assert draw.layer.best_f1_mean != first.layer.best_f1_mean
        assert abs(draw.layer.best_f1_mean - first.layer.best_f1_mean) < 0.1
        assert list(draw.places) == ["topk"]
    alone = [result for result in run(planted_case, seed=1) if result.basis == "random"]
    # The random classes that LCH excess is compared with have the analysis' own seed.
    left, right = (dataclasses.replace(own_numbers(x.layer), lch_excess_mean=0.0) for x in (alone[0], draws[1]))
    assert repr(left) == repr(right), "the seed of a draw is the analysis' plus its number"


def test_controls_can_be_chosen_in_any_order(planted_case):
    everything = {result.basis: result for result in run(planted_case, n_shuffles=0)}
    some = run(planted_case, controls=("exemplar", "neuron"), n_shuffles=0)
    assert [result.basis for result in some] == ["sae", "neuron", "exemplar"]
    assert_same(some, [everything[result.basis] for result in some])


def test_untrained_latents_that_are_missing_or_of_other_images_are_refused(planted_case):
    with pytest.raises(UserError, match="untrained needs .* got none"):
        run(planted_case, untrained=None)
    with pytest.raises(UserError, match="same 324 images, got those of 323"):
        run(planted_case, untrained=untrained(planted_case)[1:])


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

    def fired(name, draw):
        columns = CONTROL_CLASSES[name].columns(given, seed + draw)
        return thresholded(columns, densities.for_columns(columns.n_columns, all_fire=name == "class_mean"))

    for result in run(case, seed=seed, association="mass"):
        ranked = rank_activations(fired(result.basis, result.seed) if result.basis in CONTROLS else case.z)
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
    # Planted latents fire on one node, and its images' neurons are alike.
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


def test_an_sae_without_a_living_latent(planted_case):
    dead = dataclasses.replace(planted_case, z=sp.csr_array(planted_case.z.shape, dtype=np.float32))
    sae, *others = run(dead)
    assert len(sae.nodes.latent) == 0
    assert sae.latents.is_dead.all()
    assert (sae.latents.label == -1).all()
    assert sae.layer.dead_share == 1
    assert sae.layer.f1_node_share == sae.layer.best_f1_mean == 0
    assert np.isnan(sae.layer.lch_height_mean)
    for result in others:
        assert result.layer.l0_mean == 0, "a latent that never fires has no density to compare at"
        assert len(result.nodes.latent) == 0


def test_images_of_one_class_only(planted_case):
    """Every node holds all images or none: there is nothing to test, but nothing fails."""
    alone = dataclasses.replace(planted_case, labels=np.zeros_like(planted_case.labels))
    sae = run(alone)[0]
    assert sae.layer.n_nodes == 0
    assert np.isnan(sae.layer.f1_node_share)
    assert np.isnan(sae.nodes.q_node).all()
    assert set(sae.latents.lch.tolist()) == {int(alone.taxonomy.classes[0])}
    assert (sae.latents.label == alone.taxonomy.classes[0]).all()


def test_progress_reaches_its_end_and_can_stop_the_analysis(planted_case):
    seen = []
    run(planted_case, progress=lambda n_done, n_total: seen.append((n_done, n_total)))
    n_total = len(BASES) * planted_case.z.shape[1]
    assert seen[-1] == (n_total, n_total)
    assert seen == sorted(seen)
    assert len(seen) > len(set(seen))  # also in between, so that a job can stop there

    def cancel(n_done, _):
        if n_done > planted_case.z.shape[1]:
            raise JobCancelledError

    with pytest.raises(JobCancelledError):
        run(planted_case, progress=cancel)


def test_one_basis_alone_equals_the_same_among_all(planted_case):
    results = run(planted_case, seed=5)
    alone = score_one(
        planted_case.z,
        planted_case.labels,
        planted_case.taxonomy,
        basis="shuffled_taxonomy",
        seed=6,
        embeddings=planted_case.neurons,
        cluster_seed=5,
    )
    assert_same([results[-1]], [alone])


def test_a_threshold_moves_the_firing_rule_but_not_the_auroc(planted_case):
    low, high = (run(planted_case, threshold=threshold)[0] for threshold in (0.0, 2.0))
    assert high.layer.l0_mean < low.layer.l0_mean
    scores = [
        np.concatenate([block.auroc for _, block in iter_node_scores(r.class_sums, planted_case.taxonomy.closure)])
        for r in (low, high)
    ]
    np.testing.assert_array_equal(*scores)  # type: ignore[arg-type]


def test_input_that_does_not_fit_is_refused(planted_case):
    with pytest.raises(UserError, match="the same images"):
        run(dataclasses.replace(planted_case, neurons=planted_case.neurons[1:]))
    with pytest.raises(UserError, match="one label per image"):
        run(dataclasses.replace(planted_case, labels=planted_case.labels[1:]))
    broken = planted_case.z.copy()
    broken.data[0] = np.nan
    with pytest.raises(UserError, match="NaN"):
        run(dataclasses.replace(planted_case, z=broken))
