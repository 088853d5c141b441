"""Agreement of names and labels at heights of a small tree, counted by hand, and its null against every permutation."""

import itertools

import numpy as np
import pytest

from hsae.text.agreement import agreement, agreement_heights, common_heights


def node(taxonomy, name):
    return next(number for number, synset in enumerate(taxonomy.synsets) if synset.name == name)


@pytest.mark.parametrize(
    ("one", "other", "height"),
    [
        ("owl", "owl", 0), ("owl", "hen", 1), ("owl", "bird", 1), ("bird", "bird", 1), ("owl", "cod", 2),
        ("bird", "fish", 2), ("rock", "owl", 3), ("thing", "owl", 3), ("animal", "owl", 2),
    ],
)  # fmt: skip
def test_heights_of_common_nodes(taxonomy, one, other, height):
    common = common_heights(taxonomy)
    assert common[node(taxonomy, one), node(taxonomy, other)] == height
    assert common[node(taxonomy, other), node(taxonomy, one)] == height


def test_the_same_node_agrees_at_every_height(taxonomy):
    bird, owl = node(taxonomy, "bird"), node(taxonomy, "owl")
    found = agreement_heights(np.array([bird, bird, -1, owl]), np.array([bird, owl, owl, -1]), common_heights(taxonomy))
    assert found.tolist() == [0, 1, -1, -1]


def test_counts_by_hand_and_the_null_of_all_permutations(taxonomy):
    names = ["owl", "hen", "cod", "rock"]
    nodes = np.array([node(taxonomy, name) for name in names])
    words = np.array([0, 0, 1, 2, 3, -1, 0])
    labels = np.array([node(taxonomy, name) for name in ("owl", "hen", "hen", "shark", "rock", "owl")] + [-1])
    found = agreement(words, labels, nodes, taxonomy, n_shuffles=4000, seed=0)
    assert found.n_latents == 5
    assert found.heights.tolist() == [0, 1, 2, 3]
    # owl, hen and rock are their own; owl for a hen shares bird; cod for a shark shares fish.
    assert found.n_agree.tolist() == [3, 5, 5, 5]
    common = common_heights(taxonomy)
    every = []
    for permuted in itertools.permutations(nodes):
        of_word = np.array(permuted)
        heights = agreement_heights(of_word[words[:5]], labels[:5], common)
        every.append([(heights <= height).sum() for height in range(4)])
    counts = np.array(every)
    np.testing.assert_allclose(found.null_mean, counts.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(found.p, (counts >= [3, 5, 5, 5]).mean(axis=0), atol=0.03)
    assert (found.null_low <= found.null_mean).all()
    assert (found.null_mean <= found.null_high).all()


def test_words_without_nodes_never_agree(taxonomy):
    found = agreement(
        np.array([0, 1]), np.array([0, 1]), np.array([-1, -1]), taxonomy, n_shuffles=9, seed=0
    )  # fmt: skip
    assert found.n_latents == 2
    assert found.n_agree.tolist() == [0, 0, 0, 0]
    assert found.p.tolist() == [1, 1, 1, 1]
