"""A DAG printed as a tree: every edge once, every node's own hyponyms once."""

import itertools

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from hsae.report.tree import keep_with_ancestors, tree_lines


def rows(edges: dict[int, list[int]]) -> list[dict[str, object]]:
    """Nodes of a DAG from the hypernyms of each."""
    return [
        {"synset_id": node, "synset": f"s{node}", "hypernym_ids": above, "hypernyms": [f"s{p}" for p in above]}
        for node, above in edges.items()
    ]


def lines(edges: dict[int, list[int]], root: int = 0) -> list[str]:
    return [row["line"] for row in tree_lines(rows(edges), root)]


def test_a_tree():
    assert lines({0: [], 1: [0], 2: [1], 3: [0]}) == ["s0", "├─ s1", "│  └─ s2", "└─ s3"]


def test_a_node_with_two_hypernyms_is_under_both_and_marked_and_its_hyponyms_come_once():
    assert lines({0: [], 1: [0], 2: [0], 3: [1, 2], 4: [3]}) == [
        "s0",
        "├─ s1",
        "│  └─ s3 (also s2)",
        "│     └─ s4",
        "└─ s2",
        "   └─ s3 (also s1; hyponyms above)",
    ]


def test_hypernyms_outside_of_the_part_are_told():
    assert lines({5: [4], 6: [5, 9]}, root=5) == ["s5", "└─ s6 (also s9)"]


def test_nodes_of_rank_paths_are_printed_by_what_they_add_to_the_path_above():
    names = {0: "root", 1: "Animalia", 2: "Animalia/Chordata", 3: "Animalia/Chordata/Aves", 4: "Animaliana"}
    above = {0: [], 1: [0], 2: [1], 3: [2], 4: [0]}
    nodes = [
        {"synset_id": node, "synset": name, "hypernym_ids": above[node], "hypernyms": [names[p] for p in above[node]]}
        for node, name in names.items()
    ]
    found = tree_lines(nodes, 0)
    assert [row["line"] for row in found] == [
        "root",
        "├─ Animalia",
        "│  └─ Chordata",
        "│     └─ Aves",
        "└─ Animaliana",
    ]
    assert [row["is_shortened"] for row in found] == [False, False, True, True, False]
    assert tree_lines(nodes, 2)[0]["line"] == "Animalia/Chordata"


def test_only_what_leads_to_the_wanted():
    dag = rows({0: [], 1: [0], 2: [0], 3: [1, 2], 4: [2]})
    assert [row["synset_id"] for row in keep_with_ancestors(dag, 0, {3})] == [0, 1, 2, 3]
    assert [row["synset_id"] for row in keep_with_ancestors(dag, 0, {4})] == [0, 2, 4]
    assert [row["synset_id"] for row in keep_with_ancestors(dag, 0, set())] == [0]


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=4), max_size=30).map(
        lambda picks: {0: []} | {i: sorted({p % i for p in pick}) for i, pick in enumerate(picks, start=1)}
    )
)
def test_any_dag(edges):
    found = tree_lines(rows(edges), 0)
    graph = nx.DiGraph((parent, child) for child, above in edges.items() for parent in above)
    assert len(found) == 1 + graph.number_of_edges()  # even a dense DAG is printed in a line per edge
    assert {row["synset_id"] for row in found} == set(edges)
    assert sum(not row["again"] for row in found) == len(edges)
    for above, row in itertools.pairwise(found):
        assert row["level"] <= above["level"] + 1
