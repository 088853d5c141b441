import itertools

import networkx as nx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.hierarchy.probes.taxonomy_levels import taxonomy_levels


def path_from_root(taxonomy, graph, depth, node):
    """The nodes of the walk that the definition describes, the root first."""
    walk = [node]
    while walk[0] != taxonomy.root:
        nearer = [parent for parent in graph.successors(walk[0]) if depth[parent] == depth[walk[0]] - 1]
        walk.insert(0, min(nearer, key=lambda parent: (taxonomy.leaf_counts[parent], taxonomy.synsets[parent].id)))
    return walk


def as_graph(taxonomy):
    graph = nx.DiGraph(taxonomy.hypernym_edges.tolist())
    graph.add_nodes_from(range(len(taxonomy.synsets)))
    return graph


@examples(60)
@given(seed=st.integers(0, 1 << 30))
def test_the_levels_of_a_random_dag(random_taxonomy, seed):
    taxonomy = random_taxonomy(np.random.default_rng(seed))
    graph = as_graph(taxonomy)
    depth = nx.single_source_shortest_path_length(graph.reverse(), taxonomy.root)
    levels = taxonomy_levels(taxonomy)
    assert len(levels) == max(1, max(depth[node] for node in taxonomy.classes.tolist()))
    for position, node in enumerate(taxonomy.classes.tolist()):
        walk = path_from_root(taxonomy, graph, depth, node)
        assert levels[:, position].tolist() == [walk[min(level, len(walk) - 1)] for level in range(1, len(levels) + 1)]
        for level, group in enumerate(levels[:, position].tolist(), start=1):
            assert group == node or group in nx.descendants(graph, node)
            assert depth[group] == min(level, depth[node])
    for above, below in itertools.pairwise(levels):
        assert len(set(zip(above.tolist(), below.tolist(), strict=True))) == len(set(below.tolist()))
    assert levels[-1].tolist() == taxonomy.classes.tolist()


def test_classes_that_meet_again_are_never_apart_before(make_taxonomy):
    # `a` and `b` lie under z, which lies under x and y; by itself `a` would take w, which has fewer classes.
    edges = [("w", "root"), ("x", "root"), ("y", "root"), ("z", "x"), ("z", "y"), ("a", "z"), ("b", "z"), ("a", "w")]
    edges += [("c", "y"), ("d", "x")]
    taxonomy = make_taxonomy(edges, ["a", "b", "c", "d"])
    names = [[taxonomy.synsets[node].id for node in row] for row in taxonomy_levels(taxonomy)]
    # The shortest path of `a` leads through w and nowhere else, so that `a` never joins `b`.
    assert names == [["w", "x", "y", "x"], ["a", "z", "c", "d"], ["a", "b", "c", "d"]]


def test_a_class_above_another_stays_behind_as_its_own_group(make_taxonomy):
    edges = [("dog", "root"), ("cat", "root"), ("poodle", "dog"), ("toy poodle", "poodle"), ("beagle", "dog")]
    taxonomy = make_taxonomy(edges, ["dog", "cat", "poodle", "toy poodle", "beagle"])
    names = [[taxonomy.synsets[node].id for node in row] for row in taxonomy_levels(taxonomy)]
    assert [taxonomy.synsets[node].id for node in taxonomy.classes] == ["beagle", "cat", "dog", "poodle", "toy poodle"]
    assert names == [
        ["dog", "cat", "dog", "dog", "dog"],
        ["beagle", "cat", "dog", "poodle", "poodle"],
        ["beagle", "cat", "dog", "poodle", "toy poodle"],
    ]


def test_a_tie_takes_the_fewest_classes_then_the_smallest_id(make_taxonomy):
    edges = [("p", "root"), ("q", "root"), ("r", "root"), ("a", "p"), ("a", "q"), ("a", "r"), ("b", "p")]
    taxonomy = make_taxonomy(edges, ["a", "b"])
    assert [taxonomy.synsets[node].id for node in taxonomy_levels(taxonomy)[0]] == ["q", "p"]


def test_the_root_as_the_only_class_is_one_level_of_one_group(make_taxonomy):
    taxonomy = make_taxonomy([("a", "root")], ["root"])
    assert taxonomy_levels(taxonomy).tolist() == [[taxonomy.root]]
