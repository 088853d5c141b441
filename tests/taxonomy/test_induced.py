"""The induced taxonomy against networkx, on random DAGs whose nodes have several parents."""

import itertools
import json
import os
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from tests.examples import examples

from hsae.errors import UserError
from hsae.taxonomy import InducedTaxonomy, induce
from hsae.taxonomy.custom_tree import CustomTree


@st.composite
def dags(draw):
    """(edges child -> parent of a DAG with one root, class names); names are in no topological order."""
    n_nodes = draw(st.integers(2, 14))
    names = draw(st.permutations([f"v{node:02d}" for node in range(n_nodes)]))
    edges = []
    for node in range(1, n_nodes):
        parents = draw(st.sets(st.integers(0, node - 1), min_size=1, max_size=min(node, 3)))
        edges += [(names[node], names[parent]) for parent in parents]
    return edges, draw(st.sets(st.sampled_from(names), min_size=1))


def induced_graph(edges, classes):
    """child -> parent, over the classes and all their ancestors."""
    graph = nx.DiGraph(edges)
    return graph.subgraph(set(classes).union(*(nx.descendants(graph, name) for name in classes)))


def reference_lch(graph, classes, subset):
    def height(node):
        return max((1 + height(child) for child in graph.predecessors(node)), default=0)

    def n_classes_under(node):
        return len((nx.ancestors(graph, node) | {node}) & set(classes))

    common = set.intersection(*({name} | nx.descendants(graph, name) for name in subset))
    return min(common, key=lambda node: (height(node), n_classes_under(node), node))


@given(dags())
@examples(150)
def test_arrays_equal_networkx(dag):
    edges, classes = dag
    induced = induce(CustomTree("random", edges), classes)
    graph = induced_graph(edges, classes)
    names = [synset.id for synset in induced.synsets]

    assert names == sorted(graph)
    assert [names[node] for node in induced.classes] == sorted(classes)
    assert {(names[child], names[parent]) for child, parent in induced.hypernym_edges} == set(graph.edges)
    assert len(induced.hypernym_edges) == graph.number_of_edges()
    (root,) = (name for name in graph if not graph.out_degree(name))
    assert names[induced.root] == root

    below = graph.reverse()
    for node, name in enumerate(names):
        assert induced.depth[node] == nx.shortest_path_length(below, root, name)
        assert induced.height[node] == nx.dag_longest_path_length(below.subgraph(nx.descendants(below, name) | {name}))
        assert induced.leaf_counts[node] == len((nx.descendants(below, name) | {name}) & classes)
    expected = [[int(v == c or nx.has_path(graph, c, v)) for v in names] for c in sorted(classes)]
    np.testing.assert_array_equal(induced.closure.toarray(), expected)

    distances = dict(nx.all_pairs_shortest_path_length(graph))
    assert [tuple(pair) for pair in induced.node_closure().tolist()] == sorted(
        (names.index(low), names.index(high), distance)
        for low, above in distances.items()
        for high, distance in above.items()
    )


@given(dags())
@examples(60)
def test_lch_of_every_small_set_equals_the_reference(dag):
    edges, classes = dag
    induced = induce(CustomTree("random", edges), classes)
    graph = induced_graph(edges, classes)
    positions = {induced.synsets[node].id: position for position, node in enumerate(induced.classes)}
    subsets = [s for size in (1, 2, 3, len(classes)) for s in itertools.combinations(sorted(classes), size)]
    expected = [reference_lch(graph, classes, subset) for subset in subsets]

    assert [induced.synsets[induced.lch([positions[c] for c in s])].id for s in subsets] == expected
    sets = sparse.lil_array((len(subsets), len(classes)))
    for row, subset in enumerate(subsets):
        sets[row, [positions[name] for name in subset]] = 0.25
    found = induced.lch_many(sets.tocsr())
    assert found.dtype == np.int32
    assert [induced.synsets[node].id for node in found] == expected


def fruit() -> InducedTaxonomy:
    #        food
    #       /    \
    #   fruit   breakfast     apple has two parents, and fruit is a class itself
    #   /   \   /
    # pear  apple
    edges = [
        ("fruit", "food"),
        ("breakfast", "food"),
        ("pear", "fruit"),
        ("apple", "fruit"),
        ("apple", "breakfast"),
    ]
    return induce(CustomTree("fruit", edges), ["pear", "apple", "fruit"])


def test_a_class_may_be_an_ancestor_of_another():
    induced = fruit()
    names = [s.id for s in induced.synsets]
    assert names == ["apple", "breakfast", "food", "fruit", "pear"]
    assert induced.classes.tolist() == [0, 3, 4]
    assert induced.leaf_counts.tolist() == [1, 1, 3, 3, 1]
    assert induced.height.tolist() == [0, 1, 2, 1, 0]
    assert names[induced.lch([0, 2])] == "fruit"
    assert names[induced.lch([0])] == "apple"
    assert names[induced.lch([0, 1])] == "fruit"


def test_lch_ties_go_to_fewer_classes_then_to_the_smaller_id():
    edges = [(child, parent) for child in ("x", "y") for parent in ("b", "c", "a")] + [("z", "a")]
    edges += [(parent, "root") for parent in ("a", "b", "c")]
    induced = induce(CustomTree("ties", edges), ["x", "y", "z"])
    assert induced.synsets[induced.lch([0, 1])].id == "b"  # a, b and c are of height 1; a holds z too


def test_empty_sets_stored_zeros_and_repeats():
    induced = fruit()
    data, indices, indptr = [1.0, 0.0, 1.0, 1.0, 0.0], [0, 2, 2, 2, 1], [0, 0, 2, 2, 4, 5, 5]
    sets = sparse.csr_array((data, indices, indptr), shape=(6, 3))
    assert induced.lch_many(sets).tolist() == [-1, 0, -1, 4, -1, -1]
    assert sets.nnz == 5, "the argument must stay as it was"
    assert induced.lch([]) == -1
    assert induced.lch([1, 1, 1]) == 3
    assert induced.lch_many(sparse.csr_array((0, 3))).tolist() == []
    assert induced.lch_many(sparse.csr_array((5000, 3), dtype=bool)).tolist() == [-1] * 5000


def test_many_sets_of_many_classes_do_not_overflow():
    """More than 255 classes in a set, more sets than one block holds, and a boolean matrix."""
    edges = [(f"c{index:03d}", f"half{index % 2}") for index in range(600)] + [
        ("half0", "root"),
        ("half1", "root"),
    ]
    induced = induce(CustomTree("wide", edges), [f"c{index:03d}" for index in range(600)])
    columns = np.arange(600)
    dense = np.zeros((4100, 600), dtype=bool)
    dense[:2050, columns % 2 == 0] = True
    dense[2050:] = True
    names = [induced.synsets[node].id for node in induced.lch_many(sparse.csr_array(dense))]
    assert names == ["half0"] * 2050 + ["root"] * 2050


@pytest.mark.parametrize("positions", [[3], [-1], [0, 7]])
def test_positions_out_of_range_are_refused(positions):
    with pytest.raises(ValueError, match="positions"):
        fruit().lch(positions)


def test_a_matrix_of_another_width_is_refused():
    with pytest.raises(ValueError, match="4 columns"):
        fruit().lch_many(sparse.csr_array((2, 4)))


@given(dags())
@examples(40)
def test_json_round_trip(dag):
    edges, classes = dag
    induced = induce(CustomTree("random", edges), classes)
    text = induced.to_json()
    again = InducedTaxonomy.from_json(text)
    assert again == induced
    assert hash(again) == hash(induced)
    assert again.key == induced.key
    for name in ("classes", "hypernym_edges", "height", "depth", "leaf_counts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(induced, name))
        assert getattr(again, name).dtype == np.int32
    np.testing.assert_array_equal(again.closure.toarray(), induced.closure.toarray())
    # Neither the order of the rows nor that of the classes matters.
    assert induce(CustomTree("random", reversed(edges)), sorted(classes, reverse=True)).key == induced.key


def test_other_json_is_refused():
    text = fruit().to_json()
    content = json.loads(text)
    for change in (
        {"format": "other"},
        {"classes": []},
        {"classes": [99]},
        {"classes": [-1]},
        {"hypernym_edges": [[0, 99]]},
        {"hypernym_edges": [[0, -1]]},
        {"hypernym_edges": []},
        {"hypernym_edges": [[0, 1], [1, 0]]},
        {"synsets": [{"id": "apple"}]},
        {"synsets": content["synsets"][::-1]},
        {"classes": [3, 0, 4]},
        {"classes": [0, 0, 3, 4]},
        {"classes": [4]},  # apple and breakfast are above no class then
    ):
        with pytest.raises(UserError):
            InducedTaxonomy.from_json(json.dumps(content | change, sort_keys=True, separators=(",", ":")))
    for broken in ("", "[]", "null", text[:-5], text.replace(",", ", ")):
        with pytest.raises(UserError):
            InducedTaxonomy.from_json(broken)


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        fruit().height[0] = 7


def test_no_class_or_an_unknown_one_is_an_error(wordnet):
    with pytest.raises(UserError, match="there is none"):
        induce(wordnet, [])
    with pytest.raises(UserError, match="n99999999"):
        induce(wordnet, ["n02084071", "n99999999"])


@pytest.mark.slow
def test_the_same_in_processes_with_different_hash_seeds():
    code = (
        "import numpy as np, scipy.sparse as sp\n"
        "from hsae.taxonomy import induce, load_taxonomy\n"
        "t = load_taxonomy()\n"
        "names = ('dog.n.01', 'cat.n.01', 'paris.n.01', 'wine.n.01', 'person.n.01')\n"
        "ids = {t.resolve(name).id for name in names}\n"
        "i = induce(t, ids)\n"
        "print(i.key, i.lch_many(sp.csr_array(np.tri(5))).tolist(), i.node_closure().sum(axis=0).tolist())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
