import math
from collections import defaultdict

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.kernels import blocks
from hsae.hierarchy.latent_hierarchy.cofiring import Firings
from hsae.hierarchy.latent_hierarchy.edges import EdgeRules, LatentTraits, latent_hierarchy
from hsae.hierarchy.latent_hierarchy.pairs import (
    activation_pairs,
    taxonomy_pairs,
    transitive_reduction,
    without_cycles,
)
from hsae.hierarchy.scores.node_scores import NodeSums
from hsae.hierarchy.scores.shortlist import node_priority, shortlist
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


def hierarchy(ranked, taxonomy, best, f1, *, monosemanticity, decoder=None, **rules):
    return latent_hierarchy(ranked, taxonomy, best, f1, LatentTraits(monosemanticity, decoder), EdgeRules(**rules))


def nested_activations(rng):
    """Latents that fire where one before them does, on a few images strongly; some dead or alike, three in a circle."""
    n_images, n_latents = int(rng.integers(3, 30)), int(rng.integers(1, 11))
    fires = np.zeros((n_images, n_latents), np.bool_)
    strength = rng.choice([0.5, 1.0, 2.0, 40.0], size=fires.shape)
    in_circle = 3 if n_latents >= 3 and rng.random() < 0.3 else 0
    if in_circle:
        strength[:3, :3] = [[40, 0.5, 0], [0, 40, 0.5], [0.5, 0, 40]]
        fires[:3, :3] = strength[:3, :3] > 0
        fires[3:, 0] = rng.random() < 0.5  # fires elsewhere as well, weakly
        strength[3:, 0] = 0.5 / n_images
    for latent in range(in_circle, n_latents):
        kind = rng.random()
        above = fires[:, rng.integers(0, latent)] if latent and kind < 0.75 else np.ones(n_images, np.bool_)
        fires[:, latent] = above & (rng.random(n_images) < rng.choice([0.0, 0.6, 0.9, 1.0]))
    return (fires * strength).astype(np.float32)


def random_best(rng, n_nodes, n_fire):
    """A best latent of every node that fires, or none, with any F1."""
    alive = np.flatnonzero(n_fire)
    best = np.full(n_nodes, -1)
    if len(alive):
        best = np.where(rng.random(n_nodes) < 0.8, rng.choice(alive, n_nodes), -1)
    f1 = rng.choice([0.3, 0.5, 0.9, np.nan], n_nodes)
    return best.astype(np.int32), f1


def slow_spearman(x, y):
    if len(x) < 3 or len(set(x.tolist())) == 1 or len(set(y.tolist())) == 1:
        return math.nan
    return spearmanr(x, y).statistic


def slow_activation_pairs(dense, threshold, min_fire, max_density=0.5):
    """From the dense matrix of W: the relation, its circles broken, and networkx's reduction."""
    kept = np.where(dense > threshold, dense, 0).astype(np.float64)
    fires = kept > 0
    n_fire = fires.sum(axis=0)
    eligible = [j for j in range(dense.shape[1]) if max(1, min_fire) <= n_fire[j] <= max_density * len(dense)]
    w = {(c, p): kept[fires[:, p], c].sum() / kept[:, c].sum() for c in eligible for p in eligible}
    graph = nx.DiGraph((c, p) for c in eligible for p in eligible if c != p and w[c, p] > 0.9 and w[p, c] < 0.9)
    for component in list(nx.strongly_connected_components(graph)):
        graph.remove_edges_from([(c, p) for c, p in graph.edges if {c, p} <= component and not n_fire[c] < n_fire[p]])
    return sorted((p, c) for c, p in nx.transitive_reduction(graph).edges)


def slow_taxonomy_pairs(taxonomy, best, f1, min_f1):
    named = {}
    for child_node, parent_node in taxonomy.hypernym_edges.tolist():
        c, p = best[child_node], best[parent_node]
        if c < 0 or p < 0 or c == p or not (f1[child_node] >= min_f1 and f1[parent_node] >= min_f1):
            continue
        rank = (-taxonomy.depth[child_node], child_node, parent_node)
        named[p, c] = min(named.get((p, c), rank), rank)
    return sorted((p, c, rank[2], rank[1]) for (p, c), rank in named.items())


@examples(50)
@given(seed=seeds, n_latents=st.integers(1, 20), share=st.sampled_from([0.1, 0.4, 1.0]))
def test_the_transitive_reduction_equals_networkxs(seed, n_latents, share):
    rng = np.random.default_rng(seed)
    place = rng.permutation(n_latents)  # edges go from the lower to the higher place, so there is no circle
    child, parent = np.nonzero((place[:, None] < place) & (rng.random((n_latents, n_latents)) < share))
    is_needed = transitive_reduction(child, parent, n_latents)
    expected = nx.transitive_reduction(nx.DiGraph(zip(child.tolist(), parent.tolist(), strict=True))).edges
    kept = zip(child[is_needed].tolist(), parent[is_needed].tolist(), strict=True)
    assert sorted(kept) == sorted(expected)


@pytest.mark.parametrize(
    ("edges", "reduced"),
    [
        ([], []),
        ([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], [(0, 1), (1, 2), (2, 3)]),  # a chain
        ([(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)], [(0, 1), (0, 2), (1, 3), (2, 3)]),  # a diamond: two parents
        ([(0, 3), (2, 1), (3, 2), (0, 1)], [(0, 3), (2, 1), (3, 2)]),  # a shortcut over three edges
    ],
)
def test_chains_and_diamonds(edges, reduced):
    child, parent = np.array(sorted(edges), np.int64).reshape(-1, 2).T
    is_needed = transitive_reduction(child, parent, 4)
    assert list(zip(child[is_needed].tolist(), parent[is_needed].tolist(), strict=True)) == sorted(reduced)


@examples(50)
@given(seed=seeds, n_latents=st.integers(2, 12), share=st.sampled_from([0.1, 0.3, 0.6]))
def test_no_circle_is_left_and_edges_on_no_circle_stay(seed, n_latents, share):
    rng = np.random.default_rng(seed)
    child, parent = np.nonzero((rng.random((n_latents, n_latents)) < share) & ~np.eye(n_latents, dtype=np.bool_))
    n_fire = rng.integers(1, 4, n_latents)
    stays = without_cycles(child, parent, n_fire)
    edges = list(zip(child.tolist(), parent.tolist(), strict=True))
    assert nx.is_directed_acyclic_graph(nx.DiGraph(edge for edge, kept in zip(edges, stays, strict=True) if kept))
    graph = nx.DiGraph(edges)
    for (c, p), kept in zip(edges, stays, strict=True):
        assert kept == (not nx.has_path(graph, p, c) or n_fire[c] < n_fire[p])


def test_latents_can_imply_one_another_in_a_circle():
    """0, 1 and 2 have nearly all of their mass where the next one fires weakly; 3 fires where 1 is weak."""
    dense = np.array([[100, 1, 0, 7], [0, 100, 1, 0], [1, 0, 100, 0], [0, 0, 1, 0]], np.float32)

    def pairs(activations):
        firings = Firings.of(rank_activations(sp.csr_array(activations)))
        found = activation_pairs(firings, min_fire=1, max_density=1.0)
        return list(zip(found.parent.tolist(), found.child.tolist(), strict=True))

    # On the first three images the three fire twice each: none is above another.
    assert pairs(dense[:3]) == [(1, 3)]
    # On the fourth only 2 fires: it is above 1, and still not below 0.
    assert pairs(dense) == [(1, 3), (2, 1)]


@pytest.mark.parametrize(
    ("n_child", "n_parent", "n_both", "n_pairs"),
    [(10, 20, 9, 0), (10, 20, 10, 1), (20, 20, 19, 0), (18, 20, 18, 0), (17, 20, 17, 1)],
)
def test_the_cuts_are_strict(n_child, n_parent, n_both, n_pairs):
    """0.9 itself is neither above the cut nor below it."""
    dense = np.zeros((40, 2), np.float32)
    dense[:n_child, 0] = 1
    dense[n_child - n_both : n_child - n_both + n_parent, 1] = 1
    assert len(activation_pairs(Firings.of(rank_activations(sp.csr_array(dense)))).child) == n_pairs


@examples(50)
@given(
    seed=seeds,
    threshold=st.sampled_from([0.0, 0.5]),
    min_fire=st.sampled_from([0, 1, 5]),
    max_density=st.sampled_from([0.5, 1.0]),
)
def test_pairs_of_the_activations_equal_the_dense_definition(seed, threshold, min_fire, max_density):
    dense = nested_activations(np.random.default_rng(seed))
    ranked = rank_activations(sp.csr_array(dense), threshold=threshold)
    found = activation_pairs(Firings.of(ranked), min_fire=min_fire, max_density=max_density)
    pairs = list(zip(found.parent.tolist(), found.child.tolist(), strict=True))
    assert pairs == slow_activation_pairs(dense, threshold, min_fire, max_density)
    assert set(found.child_node.tolist()) | set(found.parent_node.tolist()) <= {-1}


@examples(50)
@given(seed=seeds, min_f1=st.sampled_from([0.1, 0.5]))
def test_pairs_of_the_taxonomy_equal_a_loop_over_its_edges(random_taxonomy, seed, min_f1):
    rng = np.random.default_rng(seed)
    taxonomy = random_taxonomy(rng)
    best, f1 = random_best(rng, len(taxonomy.synsets), np.ones(4))
    found = taxonomy_pairs(taxonomy, best, f1, min_f1=min_f1)
    columns = (found.parent, found.child, found.parent_node, found.child_node)
    rows = list(zip(*(part.tolist() for part in columns), strict=True))
    assert rows == slow_taxonomy_pairs(taxonomy, best, f1, min_f1)


@examples(50)
@given(seed=seeds, width=st.sampled_from([1, 20, 1 << 22]), threshold=st.sampled_from([0.0, 0.5]))
def test_edges_and_families_equal_loops_over_the_images(random_taxonomy, seed, width, threshold):
    rng = np.random.default_rng(seed)
    taxonomy, dense = random_taxonomy(rng), nested_activations(rng)
    n_latents = dense.shape[1]
    kept = np.where(dense > threshold, dense, 0).astype(np.float64)
    fires = kept > 0
    best, f1 = random_best(rng, len(taxonomy.synsets), fires.sum(axis=0))
    ms = rng.choice([0.1, 0.2, 0.3, np.nan], n_latents)
    decoder = rng.integers(-1, 2, (n_latents, 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_NONZEROS", width)
        ranked = rank_activations(sp.csr_array(dense), threshold=threshold)
        edges, families = hierarchy(
            ranked, taxonomy, best, f1, monosemanticity=ms, decoder=decoder, seed=3, min_fire=2, n_random=5
        )
    expected = [("activation", p, c, -1, -1) for p, c in slow_activation_pairs(dense, threshold, 2)]
    expected += [("taxonomy", *row) for row in slow_taxonomy_pairs(taxonomy, best, f1, 0.5)]
    keys = (edges.source, edges.parent, edges.child, edges.parent_node, edges.child_node)
    assert list(zip(*(part.tolist() for part in keys), strict=True)) == expected
    children = defaultdict(list)
    for row, (source, p, c, _, _) in enumerate(expected):
        children[source, p].append(c)
        both = fires[:, p] & fires[:, c]
        n_child, n_parent, n_both = int(fires[:, c].sum()), int(fires[:, p].sum()), int(both.sum())
        assert (edges.n_child[row], edges.n_parent[row], edges.n_both[row]) == (n_child, n_parent, n_both)
        dominance = (kept[both, p] > kept[both, c]).sum() / n_both if n_both else math.nan
        found = {name: values[row] for name, values in edges.columns().items()}
        for name, value in {
            "implication": n_both / n_child,
            "weighted_implication": kept[both, c].sum() / kept[:, c].sum(),
            "reverse_implication": n_both / n_parent,
            "weighted_reverse_implication": kept[both, p].sum() / kept[:, p].sum(),
            "dominance": dominance,
            "hard_absorption": 1 - n_both / n_child,
            "soft_absorption": 1 - dominance,
            "correlation": slow_spearman(kept[both, p], kept[both, c]),
            "is_ms_abstract": math.nan if math.isnan(ms[p] + ms[c]) else float(ms[c] > ms[p]),
        }.items():
            assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    assert list(zip(families.source.tolist(), families.parent.tolist(), strict=True)) == list(children)
    unit = decoder / np.maximum(np.linalg.norm(decoder, axis=1, keepdims=True), 1e-30)
    for row, ((source, p), below) in enumerate(children.items()):
        on = fires[:, p]
        abstract = edges.is_ms_abstract[(edges.source == source) & (edges.parent == p)]
        known = abstract[~np.isnan(abstract)]
        cosines = [unit[a] @ unit[b] for a in below for b in below if a < b]
        random_mean, least_share, greatest_share = math.nan, math.nan, math.nan
        if len(below) > 1:
            stream = np.random.Generator(np.random.PCG64((3, len(below))))
            alive = np.flatnonzero(fires.any(axis=0))
            drawn = [stream.choice(alive, len(below), replace=False, shuffle=False) for _ in range(5)]
            drawn = np.array([np.mean([unit[a] @ unit[b] for a in some for b in some if a < b]) for some in drawn])
            random_mean = np.mean(drawn)
            # Clusters that are as alike on paper differ in the last digit here.
            least_share, greatest_share = ((drawn >= np.mean(cosines) + 1e-6 * sign).mean() for sign in (1, -1))
        found = {name: values[row] for name, values in families.columns().items()}
        for name, value in {
            "n_children": len(below),
            "n_parent": on.sum(),
            "refinement": fires[on][:, below].any(axis=1).mean(),
            "correlation": slow_spearman(kept[on, p], kept[on][:, below].max(axis=1)),
            "sibling_similarity": np.mean(cosines) if cosines else math.nan,
            "random_similarity": random_mean,
            "ms_abstract_share": known.mean() if len(known) else math.nan,
        }.items():
            assert found[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
        if len(below) > 1:
            assert least_share <= found["random_share"] <= greatest_share
        else:
            assert math.isnan(found["random_share"])


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


def test_a_planted_hierarchy_is_found_with_its_absorptions(make_taxonomy):
    dense, labels, taxonomy, names, latents = planted_hierarchy(make_taxonomy)
    rng = np.random.default_rng(1)
    # Siblings write in related directions.
    group_of = {names[child]: names[parent] for child, parent in taxonomy.hypernym_edges}
    centre = {name: rng.standard_normal(64) for name in names}
    decoder = np.stack([centre[group_of[name]] + 0.5 * rng.standard_normal(64) for name in latents])
    ranked = rank_activations(sp.csr_array(dense))
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
        assert edges.hard_absorption[row] == pytest.approx(0.4 if child == "car" else 0, abs=0.1)
        assert edges.soft_absorption[row] == pytest.approx(0.7 if child == "tree" else 0, abs=0.1)
        assert edges.is_ms_abstract[row] == 1
        assert abs(edges.correlation[row]) < 0.3
    of_taxonomy = np.flatnonzero(families.source == "taxonomy")
    assert [latents[latent] for latent in families.parent[of_taxonomy]] == ["animal", "plant", "tool", "vehicle"]
    np.testing.assert_allclose(families.refinement[of_taxonomy], [1, 1, 0.5, 1], atol=0.1)
    np.testing.assert_array_equal(families.n_children[of_taxonomy], 3)
    np.testing.assert_array_equal(families.ms_abstract_share[of_taxonomy], 1)
    assert (families.sibling_similarity[of_taxonomy] > 0.6).all()
    assert (families.random_similarity[of_taxonomy] < 0.4).all()
    assert (families.random_share[of_taxonomy] < 0.1).all()


def test_children_that_follow_their_parents_strength_correlate_with_it(make_taxonomy):
    """Spearman's of parent and strongest child over the parent's images, those without any child included."""
    taxonomy = make_taxonomy([("a", "r"), ("b", "r")], ["a", "b"])
    parent = np.arange(1, 13)
    dense = np.stack([parent, np.where(parent % 2, parent / 2, 0), np.where(parent % 2, 0, parent / 3)], axis=1)
    node = {synset.id: place for place, synset in enumerate(taxonomy.synsets)}
    best = np.zeros(3, np.int32)
    best[[node["a"], node["b"]]] = (1, 2)
    ranked = rank_activations(sp.csr_array(dense.astype(np.float32)))
    _, families = hierarchy(ranked, taxonomy, best, np.ones(3), monosemanticity=np.full(3, np.nan))
    expected = spearmanr(parent, dense[:, 1:].max(axis=1)).statistic
    np.testing.assert_allclose(families.correlation, expected)
    np.testing.assert_array_equal(families.refinement, 1)
    np.testing.assert_array_equal(families.sibling_similarity, np.nan)
    np.testing.assert_array_equal(families.ms_abstract_share, np.nan)


def test_random_clusters_depend_on_the_seed_and_the_size_alone(make_taxonomy):
    """A family's numbers stay as they are, to the bit, when another family comes in."""
    edges = [("a", "r"), ("a1", "a"), ("a2", "a"), ("b", "r"), ("b1", "b"), ("b2", "b"), ("b3", "b")]
    taxonomy = make_taxonomy(edges, ["a1", "a2", "b1", "b2", "b3"])
    names = [synset.id for synset in taxonomy.synsets]
    rng = np.random.default_rng(0)
    ranked = rank_activations(sp.csr_array(rng.exponential(size=(9, len(names))).astype(np.float32)))
    decoder = rng.standard_normal((len(names), 7)).astype(np.float32)
    f1 = np.array([{"r": 0.1, "b": 0.6}.get(name, 0.9) for name in names])

    def rows(**options):
        _, families = hierarchy(
            ranked, taxonomy, np.arange(len(names)), f1, monosemanticity=np.ones(len(names)), decoder=decoder, **options
        )
        return {
            names[families.parent[row]]: [values[row] for values in families.columns().values()]
            for row in range(len(families.parent))
        }

    assert sorted(rows()) == ["a", "b"]
    assert rows(min_f1=0.7) == {"a": rows()["a"]}
    assert rows(seed=1)["a"] != rows()["a"]


def test_dead_latents_only_give_empty_tables(random_taxonomy):
    taxonomy = random_taxonomy(np.random.default_rng(0))
    n_nodes = len(taxonomy.synsets)
    ranked = rank_activations(sp.csr_array((4, 3), dtype=np.float32))
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
    ranked = rank_activations(sp.csr_array(np.array([[1, 1, 0], [1, 0, 0]], np.float32)))
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
