"""Edges: chosen on some images, scored and confirmed on others."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.latent_hierarchy.edge_cases import (
    hierarchy,
    nested_activations,
    random_best,
    ranked_of,
    slow_activation_pairs,
    slow_spearman,
    slow_taxonomy_pairs,
)

from hsae.errors import UserError
from hsae.hierarchy.kernels import blocks
from hsae.hierarchy.scores.node_scores import NodeSums
from hsae.hierarchy.scores.shortlist import node_priority, shortlist
from hsae.hierarchy.statistics.class_sums import sum_by_class

seeds = st.integers(0, 2**32 - 1)


@examples(50)
@given(
    seed=seeds,
    width=st.sampled_from([1, 20, 1 << 22]),
    threshold=st.sampled_from([0.0, 0.5]),
    is_held_out=st.booleans(),
)
def test_edges_equal_loops_over_the_images(random_taxonomy, seed, width, threshold, is_held_out):
    """Latents that die on the scored images, ties, pairs that never fire together, no pairs at all."""
    rng = np.random.default_rng(seed)
    taxonomy, dense = random_taxonomy(rng), nested_activations(rng)
    is_scored = rng.random(len(dense)) < 0.5 if is_held_out else np.ones(len(dense), np.bool_)
    is_scored[0] = True
    select, score = (dense[~is_scored], dense[is_scored]) if is_held_out and not is_scored.all() else (dense, dense)
    n_latents, n_images = dense.shape[1], len(score)
    best, f1 = random_best(rng, len(taxonomy.synsets), (select > threshold).sum(axis=0))
    _, f1_score = random_best(rng, len(taxonomy.synsets), np.ones(1))
    ms = rng.choice([0.1, 0.2, 0.3, np.nan], n_latents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_NONZEROS", width)
        edges, _ = hierarchy(
            ranked_of(select, threshold),
            taxonomy,
            best,
            (f1, f1_score),
            monosemanticity=ms,
            scored=ranked_of(score, threshold),
            min_fire=2,
        )
    expected = [("activation", p, c, -1, -1) for p, c in slow_activation_pairs(select, threshold, 2)]
    expected += [("taxonomy", *row) for row in slow_taxonomy_pairs(taxonomy, best, f1, 0.5)]
    keys = (edges.source, edges.parent, edges.child, edges.parent_node, edges.child_node)
    assert list(zip(*(part.tolist() for part in keys), strict=True)) == expected
    chosen = select > threshold
    kept = np.where(score > threshold, score, 0).astype(np.float64)
    fires = kept > 0
    for row, (source, p, c, parent_node, child_node) in enumerate(expected):
        both = fires[:, p] & fires[:, c]
        n_child, n_parent, n_both = (int(part.sum()) for part in (fires[:, c], fires[:, p], both))
        implication, chance = ratio(n_both, n_child), n_parent / n_images
        dominance = ratio((kept[both, p] > kept[both, c]).sum(), n_both)
        w, w_reverse = (ratio(kept[both, j].sum(), kept[:, j].sum()) for j in (c, p))
        holds = w > 0.9 and w_reverse < 0.9
        if source == "taxonomy":
            holds = f1_score[parent_node] >= 0.5 and f1_score[child_node] >= 0.5
        found = {name: values[row] for name, values in edges.columns().items()}
        for name, value in {
            "n_parent_select": chosen[:, p].sum(),
            "n_child_select": chosen[:, c].sum(),
            "n_both_select": (chosen[:, p] & chosen[:, c]).sum(),
            "n_parent": n_parent,
            "n_child": n_child,
            "n_both": n_both,
            "implication": implication,
            "expected_implication": chance,
            "adjusted_implication": ratio(implication - chance, 1 - chance),
            "implication_p": slow_tail(n_both, n_images, n_parent, n_child) if n_child else math.nan,
            "weighted_implication": w,
            "reverse_implication": ratio(n_both, n_parent),
            "weighted_reverse_implication": w_reverse,
            "dominance": dominance,
            "miss_rate": 1 - implication,
            "not_dominant_share": 1 - dominance,
            "correlation": slow_spearman(kept[both, p], kept[both, c]),
            "is_confirmed": holds and n_child >= 2,
            "is_ms_abstract": math.nan if math.isnan(ms[p] + ms[c]) else float(ms[c] > ms[p]),
        }.items():
            assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize(("n_child", "is_confirmed"), [(19, False), (20, True)])
def test_by_default_a_child_fires_on_20_scored_images_to_be_confirmed(make_taxonomy, n_child, is_confirmed):
    taxonomy = make_taxonomy([("animal", "root"), ("dog", "animal")], ["dog"])
    chosen_on = np.zeros((100, 2), np.float32)
    chosen_on[:20, 0] = 1
    chosen_on[:40, 1] = 1
    scored = chosen_on.copy()
    scored[n_child:, 0] = 0
    best = np.array([{"dog": 0, "animal": 1}.get(synset.id, -1) for synset in taxonomy.synsets])
    edges, _ = hierarchy(
        ranked_of(chosen_on),
        taxonomy,
        best,
        np.ones(len(best)),
        monosemanticity=np.full(2, np.nan),
        scored=ranked_of(scored),
    )
    assert edges.source.tolist() == ["activation", "taxonomy"]
    assert edges.n_child.tolist() == [n_child, n_child]
    assert edges.is_confirmed.tolist() == [is_confirmed, is_confirmed]


def ratio(part, whole):
    return part / whole if whole else math.nan


def slow_tail(n_both, n_images, n_parent, n_child):
    """`P(X >= n_both)`, added up from the numbers of ways to draw the child's images."""
    ways = [
        math.comb(n_parent, x) * math.comb(n_images - n_parent, n_child - x)
        for x in range(n_both, min(n_parent, n_child) + 1)
    ]
    return sum(ways) / math.comb(n_images, n_child)


def planted_hierarchy(make_taxonomy):
    """Four groups of three classes; a latent for every group and class, each parent of another kind.

    animal: clean, it fires wherever a child does and is stronger. vehicle: absorbed, silent on 40 % of the images of
    car. plant: soft-absorbed, weaker than tree on 70 % of tree's images. tool: fires on its images, but its children
    fire on half of theirs only.
    """
    groups = {
        "animal": ("dog", "cat", "bird"),
        "vehicle": ("car", "boat", "train"),
        "plant": ("tree", "moss", "fern"),
        "tool": ("saw", "file", "drill"),
    }
    edges = [(group, "root") for group in groups] + [(leaf, group) for group in groups for leaf in groups[group]]
    taxonomy = make_taxonomy(edges, [leaf for leaves in groups.values() for leaf in leaves])
    names = [synset.id for synset in taxonomy.synsets]
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.repeat(np.arange(12), 200))
    under = {name: taxonomy.closure.toarray()[labels, node] > 0 for node, name in enumerate(names)}
    latents = [name for name in names if name != "root"]
    strength = {name: rng.uniform(1, 2, len(labels)) for name in latents}
    fires = {name: under[name].copy() for name in latents}
    for group in groups:
        strength[group] += 2
    fires["vehicle"] &= ~under["car"] | (rng.random(len(labels)) >= 0.4)
    strength["plant"][under["tree"] & (rng.random(len(labels)) < 0.7)] = 0.5
    for leaf in groups["tool"]:
        fires[leaf] &= rng.random(len(labels)) < 0.5
    dense = np.stack([fires[name] * strength[name] for name in latents], axis=1).astype(np.float32)
    return dense, labels, taxonomy, names, latents


def test_a_planted_hierarchy_is_found_with_its_misses(make_taxonomy):
    dense, labels, taxonomy, names, latents = planted_hierarchy(make_taxonomy)
    rng = np.random.default_rng(1)
    # Siblings write in related directions.
    group_of = {names[child]: names[parent] for child, parent in taxonomy.hypernym_edges}
    centre = {name: rng.standard_normal(64) for name in names}
    decoder = np.stack([centre[group_of[name]] + 0.5 * rng.standard_normal(64) for name in latents])
    ranked = ranked_of(dense)
    priority = node_priority(taxonomy)
    sums = sum_by_class(ranked, labels, 12)
    chosen = shortlist(NodeSums(sums, sp.csr_array(taxonomy.closure[:, priority])), priority)
    ms = np.array([0.2 if group_of[name] == "root" else 0.6 for name in latents])
    edges, families = hierarchy(
        ranked,
        taxonomy,
        chosen.node_best_latent,
        chosen.node_best_f1,
        monosemanticity=ms,
        decoder=decoder.astype(np.float32),
    )

    def named(source):
        return {
            (latents[edges.parent[row]], latents[edges.child[row]]): row
            for row in np.flatnonzero(edges.source == source)
        }

    by_taxonomy, by_activation = named("taxonomy"), named("activation")
    leaves = {(group, name) for name, group in group_of.items() if group != "root"}
    # The taxonomy names every pair; the activations all but the absorbed one, and no siblings.
    assert set(by_taxonomy) == leaves
    assert set(by_activation) == leaves - {("vehicle", "car")}
    for (parent, child), row in by_taxonomy.items():
        assert (names[edges.parent_node[row]], names[edges.child_node[row]]) == (parent, child)
        assert edges.miss_rate[row] == pytest.approx(0.4 if child == "car" else 0, abs=0.1)
        assert edges.not_dominant_share[row] == pytest.approx(0.7 if child == "tree" else 0, abs=0.1)
        assert edges.is_ms_abstract[row] == 1
        assert abs(edges.correlation[row]) < 0.3
    of_taxonomy = np.flatnonzero(families.source == "taxonomy")
    assert [latents[latent] for latent in families.parent[of_taxonomy]] == ["animal", "plant", "tool", "vehicle"]
    np.testing.assert_allclose(families.refinement[of_taxonomy], [1, 1, 0.5, 1], atol=0.1)
    np.testing.assert_array_equal(families.n_children[of_taxonomy], 3)
    np.testing.assert_array_equal(families.ms_abstract_share[of_taxonomy], 1)
    assert (families.sibling_similarity_decoder[of_taxonomy] > 0.6).all()
    # No other latents fire as rarely as the children of tool, so that every cluster is these children themselves.
    assert (families.random_similarity_decoder[of_taxonomy[[0, 1, 3]]] < 0.4).all()
    assert (families.random_share_decoder[of_taxonomy[[0, 1, 3]]] < 0.1).all()
    assert families.random_share_decoder[of_taxonomy[2]] == 1


def test_dead_latents_only_give_empty_tables(random_taxonomy):
    taxonomy = random_taxonomy(np.random.default_rng(0))
    n_nodes = len(taxonomy.synsets)
    ranked = ranked_of(np.zeros((4, 3), np.float32))
    edges, families = hierarchy(
        ranked,
        taxonomy,
        np.full(n_nodes, -1),
        np.zeros(n_nodes),
        monosemanticity=np.full(3, np.nan),
        decoder=np.zeros((3, 2), np.float32),
    )
    assert {len(values) for values in (*edges.columns().values(), *families.columns().values())} == {0}


def test_input_that_does_not_fit_is_refused(random_taxonomy):
    taxonomy = random_taxonomy(np.random.default_rng(0))
    n_nodes = len(taxonomy.synsets)
    ranked = ranked_of(np.array([[1, 1, 0], [1, 0, 0]], np.float32))
    best, f1, ms = np.zeros(n_nodes, np.int32), np.ones(n_nodes), np.ones(3)
    broken = np.ones((3, 2), np.float32)
    broken[1, 0] = np.nan
    for message, arguments, options in (
        ("one of each per node", (best[1:], f1), {}),
        ("one of each per node", (best, f1[1:]), {}),
        ("fires on no image", (np.full(n_nodes, 2), f1), {}),
        ("fires on no image", (np.full(n_nodes, 3), f1), {}),
        ("fires on no image", (np.full(n_nodes, -2), f1), {}),
        ("give one per latent", (best, f1), {"monosemanticity": ms[1:]}),
        ("one direction per latent", (best, f1), {"decoder": broken[1:]}),
        ("latent 1", (best, f1), {"decoder": broken}),
        ("least F1 0", (best, f1), {"min_f1": 0.0}),
        ("random clusters", (best, f1), {"n_random": 0}),
    ):
        with pytest.raises(UserError, match=message):
            hierarchy(ranked, taxonomy, *arguments, **{"monosemanticity": ms, **options})
