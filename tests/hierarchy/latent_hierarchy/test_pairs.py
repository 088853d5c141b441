"""Which latents are paired: reductions, cuts, the two sources."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.latent_hierarchy.edge_cases import (
    nested_activations,
    random_best,
    ranked_of,
    slow_activation_pairs,
    slow_reduction,
    slow_taxonomy_pairs,
)

from hsae.hierarchy.latent_hierarchy.cofiring import Firings
from hsae.hierarchy.latent_hierarchy.pairs import (
    activation_pairs,
    taxonomy_pairs,
    transitive_reduction,
    without_cycles,
)

seeds = st.integers(0, 2**32 - 1)


@examples(50)
@given(seed=seeds, n_latents=st.integers(1, 20), share=st.sampled_from([0.1, 0.4, 1.0]))
def test_the_transitive_reduction_drops_what_other_chains_replace(seed, n_latents, share):
    rng = np.random.default_rng(seed)
    place = rng.permutation(n_latents)  # edges go from the lower to the higher place, so there is no circle
    child, parent = np.nonzero((place[:, None] < place) & (rng.random((n_latents, n_latents)) < share))
    is_needed = transitive_reduction(child, parent)
    kept = list(zip(child[is_needed].tolist(), parent[is_needed].tolist(), strict=True))
    assert kept == slow_reduction(list(zip(child.tolist(), parent.tolist(), strict=True)))


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
    is_needed = transitive_reduction(child, parent)
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
        firings = Firings.of(ranked_of(activations))
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
    assert len(activation_pairs(Firings.of(ranked_of(dense)), min_fire=5).child) == n_pairs


@pytest.mark.parametrize(
    ("n_child", "n_parent", "n_pairs"),
    [(19, 40, 0), (20, 40, 1), (20, 50, 1), (20, 51, 0)],
)
def test_by_default_latents_fire_on_20_of_the_images_and_on_half_of_them_at_most(n_child, n_parent, n_pairs):
    dense = np.zeros((100, 2), np.float32)
    dense[:n_child, 0] = 1
    dense[:n_parent, 1] = 1
    assert len(activation_pairs(Firings.of(ranked_of(dense))).child) == n_pairs


@examples(50)
@given(
    seed=seeds,
    threshold=st.sampled_from([0.0, 0.5]),
    min_fire=st.sampled_from([0, 1, 5]),
    max_density=st.sampled_from([0.5, 1.0]),
)
def test_pairs_of_the_activations_equal_the_dense_definition(seed, threshold, min_fire, max_density):
    dense = nested_activations(np.random.default_rng(seed))
    ranked = ranked_of(dense, threshold)
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
