"""Whether names by text agree with the labels by scores, at every height of the tree, beside a shuffled vocabulary."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from hsae.taxonomy import InducedTaxonomy

_NONE = -1


def common_heights(taxonomy: InducedTaxonomy) -> Int64[np.ndarray, "n_nodes n_nodes"]:
    """For every pair of nodes the least height of a node that is at or above both."""
    n_nodes = len(taxonomy.synsets)
    under: list[list[int]] = [[] for _ in range(n_nodes)]
    for descendant, ancestor, _ in taxonomy.node_closure().tolist():
        under[ancestor].append(descendant)
    found = np.full((n_nodes, n_nodes), int(taxonomy.height.max()), np.int64)
    for node in np.argsort(-taxonomy.height, kind="stable").tolist():  # lower ones overwrite
        found[np.ix_(under[node], under[node])] = taxonomy.height[node]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How many latents agree at each height, and how many by chance.

    Attributes:
        n_latents: latents with a name and a label.
        heights: 0 to that of the root.
        n_agree: latents whose named node is their label, or has a common node with it at this height or below.
        null_mean: the same with the words shuffled over their nodes, mean of the shuffles.
        null_low: 2.5 % point of the shuffles.
        null_high: 97.5 % point.
        p: share of the shuffles with as many, the unshuffled one among them.
    """

    n_latents: int
    heights: Int64[np.ndarray, "n_levels"]
    n_agree: Int64[np.ndarray, "n_levels"]
    null_mean: Float64[np.ndarray, "n_levels"]
    null_low: Float64[np.ndarray, "n_levels"]
    null_high: Float64[np.ndarray, "n_levels"]
    p: Float64[np.ndarray, "n_levels"]


def agreement_heights(
    named: Int64[np.ndarray, "n"], labels: Int64[np.ndarray, "n"], common: Int64[np.ndarray, "n_nodes n_nodes"]
) -> Int64[np.ndarray, "n"]:
    """The height from which on name and label agree, 0 where they are the same node; -1: one of them is no node."""
    known = (named >= 0) & (labels >= 0)
    heights = np.where(named == labels, 0, common[named, labels])
    return np.where(known, heights, _NONE)


def agreement(
    words: Int64[np.ndarray, "n"],
    labels: Int64[np.ndarray, "n"],
    nodes: Int64[np.ndarray, "n_words"],
    taxonomy: InducedTaxonomy,
    *,
    n_shuffles: int,
    seed: int,
) -> Agreement:
    """Count latents whose name and label agree, and do it again with the words' nodes permuted.

    A permutation leaves the latents' words as they are, and with them which latents share a word and how often each is
    given; what it breaks is which node a word means (ours).

    Args:
        words: the word of every latent, -1: none.
        labels: the node of its label, -1: none.
        nodes: the node of every word, -1: none.
        taxonomy: of the nodes.
        n_shuffles: permutations.
        seed: of these.
    """
    common = common_heights(taxonomy)
    heights = np.arange(int(taxonomy.height.max()) + 1)
    counted = (words >= 0) & (labels >= 0)
    words, labels = words[counted], labels[counted]

    def counts(of_word: Int64[np.ndarray, "n_words"]) -> Int64[np.ndarray, "n_levels"]:
        found = agreement_heights(of_word[words], labels, common)
        return np.bincount(found[found >= 0], minlength=len(heights)).cumsum()

    observed = counts(nodes)
    rng = np.random.default_rng(seed)
    null = np.stack([counts(rng.permutation(nodes)) for _ in range(n_shuffles)])
    low, high = np.quantile(null, (0.025, 0.975), axis=0)
    p = (1 + (null >= observed).sum(axis=0)) / (1 + n_shuffles)
    return Agreement(len(words), heights, observed, null.mean(axis=0), low, high, p)
