"""What ImageNet-1k's classes induce in WordNet 3.0: known counts, and every array against networkx."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from tests.examples import examples

from hsae.taxonomy import InducedTaxonomy, induce
from hsae.taxonomy.imagenet import imagenet_wnids

WNIDS = imagenet_wnids()


@pytest.fixture(scope="module")
def imagenet(wordnet) -> InducedTaxonomy:
    return induce(wordnet, [wordnet.resolve(wnid).id for wnid in WNIDS])


@pytest.fixture(scope="module")
def below(wordnet) -> nx.DiGraph:
    """hypernym -> hyponym over the classes and all their ancestors, walked up without the code under test."""
    graph = nx.DiGraph()
    pending = list(WNIDS)
    while pending:
        child = pending.pop()
        for parent in wordnet.hypernyms(child):
            if parent not in graph:
                pending.append(parent)
            graph.add_edge(parent, child)
    return graph


def node_of(imagenet: InducedTaxonomy, name: str) -> int:
    return [synset.name for synset in imagenet.synsets].index(name)


def test_counts(imagenet):
    """Pinned: whoever changes what counts as a hypernym (instance hypernyms, all parents) sees it here."""
    assert len(set(WNIDS)) == 1000
    assert len(imagenet.classes) == 1000
    assert len(imagenet.synsets) == 1860
    assert len(imagenet.hypernym_edges) == 1937
    assert imagenet.synsets[imagenet.root].name == "entity.n.01"
    assert imagenet.height.max() == imagenet.height[imagenet.root] == 18
    assert imagenet.depth.max() == 17
    assert imagenet.closure.nnz == 12_547
    assert imagenet.key == "38e8c082764e7f792967a55cca46a0351a288d40a927669791eb660b7b805e75"


def test_several_parents(imagenet):
    n_parents = np.bincount(imagenet.hypernym_edges[:, 0], minlength=len(imagenet.synsets))
    assert np.bincount(n_parents).tolist() == [1, 1784, 72, 3]
    dog = node_of(imagenet, "dog.n.01")
    parents = imagenet.hypernym_edges[imagenet.hypernym_edges[:, 0] == dog, 1]
    assert {imagenet.synsets[parent].name for parent in parents} == {"canine.n.02", "domestic_animal.n.01"}


@pytest.mark.parametrize(
    ("name", "height", "depth", "n_classes"),
    [
        ("entity.n.01", 18, 0, 1000),
        ("artifact.n.01", 11, 4, 522),
        ("animal.n.01", 12, 6, 398),
        ("dog.n.01", 5, 8, 118),
        ("bird.n.01", 7, 9, 59),
        ("fruit.n.01", 4, 8, 16),
    ],
)
def test_known_nodes(imagenet, name, height, depth, n_classes):
    """118 of ImageNet-1k's classes are breeds of dogs, 59 are birds and 398 animals, as everybody counts them."""
    node = node_of(imagenet, name)
    assert (imagenet.height[node], imagenet.depth[node], imagenet.leaf_counts[node]) == (height, depth, n_classes)


def test_every_array_equals_networkx(imagenet, below):
    ids = [synset.id for synset in imagenet.synsets]
    assert ids == sorted(below)
    edges = {(ids[child], ids[parent]) for child, parent in imagenet.hypernym_edges.tolist()}
    assert edges == {(child, parent) for parent, child in below.edges}
    root = ids[imagenet.root]
    shortest = nx.single_source_shortest_path_length(below, root)
    classes = set(WNIDS)
    descendants = {node: nx.descendants(below, node) | {node} for node in ids}
    for node, name in enumerate(ids):
        assert imagenet.depth[node] == shortest[name]
        assert imagenet.leaf_counts[node] == len(descendants[name] & classes)
        longest = nx.dag_longest_path_length(below.subgraph(descendants[name]))
        assert imagenet.height[node] == longest, name
    closure = imagenet.closure.toarray() > 0
    for position, node in enumerate(imagenet.classes.tolist()):
        above = nx.ancestors(below, ids[node]) | {ids[node]}
        assert {ids[column] for column in np.flatnonzero(closure[position])} == above


@examples(60)
@given(data=st.data())
def test_lch_of_random_classes_equals_brute_force(imagenet, below, data):
    """Any classes, and classes out of one subtree, whose LCH is not near the root."""
    ids = [synset.id for synset in imagenet.synsets]
    class_ids = [ids[node] for node in imagenet.classes]
    top = data.draw(st.integers(0, len(ids) - 1))
    under = np.flatnonzero(imagenet.closure.toarray()[:, top])
    positions = data.draw(st.sets(st.sampled_from(under.tolist()), min_size=1, max_size=16))
    common = set.intersection(*(nx.ancestors(below, class_ids[p]) | {class_ids[p]} for p in positions))
    expected = min(
        common, key=lambda name: (imagenet.height[ids.index(name)], imagenet.leaf_counts[ids.index(name)], name)
    )
    assert ids[imagenet.lch(sorted(positions))] == expected
    members = sparse.lil_array((2, len(class_ids)))
    members[1, sorted(positions)] = 1
    nodes = imagenet.lch_many(members.tocsr())
    assert (nodes[0], ids[nodes[1]]) == (-1, expected)
