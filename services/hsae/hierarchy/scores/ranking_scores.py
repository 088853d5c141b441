"""Average precision and the best-F1 threshold of chosen (latent, node) pairs, exactly.

Both need the order of the images, not only sums over the node, so they are computed for the shortlist only. Only the
non-zeros of a latent are sorted; its zeros are one group of tied images after them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float64, Int, Int64

from hsae.hierarchy.kernels.blocks import go_on, latent_blocks, ranges
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.statistics.label_sets import checked_positions
from hsae.hierarchy.statistics.ranks import RankedActivations, strongest_first

_BLOCK_ENTRIES = 1 << 19


@dataclass(frozen=True, eq=False)  # without slots, so that tables can be composed of it
class RankingScores:
    """Scores of pairs in which the latent's activation ranks the images; NaN where undefined.

    Attributes:
        average_precision: mean, over the node's images, of the precision among the images that are at least as strong.
        best_f1: greatest F1 of the rule "activation >= t" over the latent's activations t > 0.
        best_threshold: the t that gives `best_f1`, the greatest one on ties; NaN if `best_f1` is 0.
    """

    average_precision: Float64[np.ndarray, "n_pairs"]
    best_f1: Float64[np.ndarray, "n_pairs"]
    best_threshold: Float64[np.ndarray, "n_pairs"]


def ranking_scores(
    ranked: RankedActivations,
    labels: Int[np.ndarray, "n_images"],
    closure: "sp.csr_array[np.uint8]",
    latents: Int[np.ndarray, "n_pairs"],
    nodes: Int[np.ndarray, "n_pairs"],
    *,
    check: Callable[[], None] = go_on,
) -> RankingScores:
    """Average precision and best F1 of chosen pairs.

    Let `k(t)` be the number of images with an activation of at least `t`, `TP(t)` the number of these under the node,
    and `n_v` the number of images under the node. Average precision is `sum_t (TP(t) - TP(t+)) / n_v * TP(t) / k(t)`
    over the distinct activations `t`, including 0, where `t+` is the next greater one. F1 is `2 TP(t) / (k(t) + n_v)`.
    Tied images are treated together, as in scikit-learn's `average_precision_score` and `precision_recall_curve`. The
    best F1 leaves out the threshold 0, because a latent that is 0 does not fire (ours: scikit-learn's curve ends with
    it).

    Average precision is undefined for a node without images or with all images, and for a constant latent, like AUROC.
    The best F1 is undefined for a node without images, and for a latent that is 0 everywhere.

    Time is proportional to the sum over the pairs of the latent's non-zeros; memory holds one block of them.

    Args:
        ranked: activations of every latent.
        labels: class or label set of every image.
        closure: [n_classes, n_nodes], as `InducedTaxonomy.closure`; rows are classes or label sets.
        latents: latent of every pair, in any order.
        nodes: node of every pair.
        check: called for every block of latents; may raise to stop.

    Raises:
        UserError: there is not one label per image, or a label is outside the taxonomy.
    """
    n_classes = int(closure.shape[0])
    labels = checked_positions(labels, ranked.n_images, n_classes)
    is_under: Bool[np.ndarray, "n_nodes n_classes"] = np.ascontiguousarray(closure.toarray().T > 0)
    n_node = (is_under @ np.bincount(labels, minlength=n_classes).astype(np.float64))[nodes]
    n_nonzero = np.diff(ranked.indptr)
    precision_sum, best_f1, best_threshold = (np.zeros(len(latents)) for _ in range(3))
    n_hits = np.zeros(len(latents))
    is_constant = n_nonzero == 0

    order = np.argsort(latents, kind="stable")
    used, n_pairs = np.unique(latents, return_counts=True)
    pair_ends = np.cumsum(n_pairs)

    def score(run: slice) -> None:
        ordered = _Ordered.of(ranked, labels, used[run])
        is_constant[used[run]] |= ordered.is_constant
        low = int(pair_ends[run.start] - n_pairs[run.start])
        place = np.repeat(np.arange(run.stop - run.start), n_pairs[run])  # of the pair's latent in the run
        for pairs in latent_blocks(_ends(ordered.n_entries[place]), max_nonzeros=_BLOCK_ENTRIES):
            chosen = order[low + pairs.start : low + pairs.stop]
            gained, hits, group_end, value, pair = ordered.hits(place[pairs], is_under, nodes[chosen])
            width = len(chosen)
            precision_sum[chosen] = np.bincount(pair, gained * hits / group_end, minlength=width)
            n_hits[chosen] = np.bincount(pair, gained, minlength=width)
            f1 = 2.0 * hits / (group_end + n_node[chosen][pair])
            best_f1[chosen], best_threshold[chosen] = _greatest(f1, value, pair, width)

    for _ in map_blocks(score, latent_blocks(_ends(n_nonzero[used]), max_nonzeros=_BLOCK_ENTRIES), "cpu"):
        check()  # each block writes to its own pairs

    with np.errstate(divide="ignore", invalid="ignore"):
        # The zeros are a group of ties that ends with the last image.
        average_precision = (precision_sum + (n_node - n_hits) * (n_node / ranked.n_images)) / n_node
    is_ranked = (n_node > 0) & (n_node < ranked.n_images) & ~is_constant[latents]
    has_f1 = (n_node > 0) & (n_nonzero[latents] > 0)
    return RankingScores(
        average_precision=np.where(is_ranked, average_precision, np.nan),
        best_f1=np.where(has_f1, best_f1, np.nan),
        best_threshold=np.where(has_f1 & (best_f1 > 0), best_threshold, np.nan),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ordered:
    """The non-zeros of some latents, latent by latent, strongest first.

    label: class of the image; value: activation; group_end: number of images that are at least as strong; start and
    n_entries: position and number of each latent's entries; is_constant: the latent has one non-zero activation
    everywhere.
    """

    label: Int64[np.ndarray, "n"]
    value: Float64[np.ndarray, "n"]
    group_end: Int64[np.ndarray, "n"]
    start: Int64[np.ndarray, "n_latents"]
    n_entries: Int64[np.ndarray, "n_latents"]
    is_constant: Bool[np.ndarray, "n_latents"]

    @classmethod
    def of(
        cls,
        ranked: RankedActivations,
        labels: Int64[np.ndarray, "n_images"],
        latents: Int[np.ndarray, "n_latents"],
    ) -> "_Ordered":
        n_entries = np.diff(ranked.indptr)[latents]
        entry, column = ranges(ranked.indptr[latents], n_entries)
        value = ranked.activation[entry]
        in_order = strongest_first(torch.from_numpy(column), torch.from_numpy(value))
        order, first_of_tie, tie = (part.numpy() for part in in_order)
        value = value[order]
        start = np.cumsum(n_entries) - n_entries
        end_of_tie = np.append(first_of_tie, len(value))[1:]
        group_end = end_of_tie[tie] - start[column]
        n_groups = np.bincount(column[first_of_tie], minlength=len(latents))
        return cls(
            label=labels[ranked.image[entry[order]]],
            value=value.astype(np.float64),
            group_end=group_end,
            start=start,
            n_entries=n_entries,
            is_constant=(n_groups == 1) & (n_entries == ranked.n_images),
        )

    def hits(
        self,
        place: Int64[np.ndarray, "n_pairs"],
        is_under: Bool[np.ndarray, "n_nodes n_classes"],
        nodes: Int[np.ndarray, "n_pairs"],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The groups of ties that contain an image under the node, pair by pair, strongest first.

        Other groups change neither the average precision nor the best F1.

        Returns:
            For every group: its number of images under the node; that number including all stronger groups; the number
            of all images up to the end of the group; its activation; the index of its pair.
        """
        entry, pair = ranges(self.start[place], self.n_entries[place])
        first_cell = nodes.astype(np.int64) * is_under.shape[1]
        hit = np.flatnonzero(is_under.ravel()[first_cell[pair] + self.label[entry]])
        entry, pair = entry[hit], pair[hit]
        group_end = self.group_end[entry]
        is_last = np.ones(len(hit), np.bool_)
        is_last[:-1] = (group_end[1:] != group_end[:-1]) | (pair[1:] != pair[:-1])
        last = np.flatnonzero(is_last)
        n_hits = np.bincount(pair, minlength=len(place))
        first = np.cumsum(n_hits) - n_hits
        pair = pair[last]
        return np.diff(last, prepend=-1), last - first[pair] + 1, group_end[last], self.value[entry[last]], pair


def _greatest(
    f1: Float64[np.ndarray, "n_groups"],
    value: Float64[np.ndarray, "n_groups"],
    pair: Int64[np.ndarray, "n_groups"],
    n_pairs: int,
) -> tuple[Float64[np.ndarray, "n_pairs"], Float64[np.ndarray, "n_pairs"]]:
    """The greatest F1 of every pair and the first value that gives it; 0 for a pair without groups."""
    greatest, threshold = np.zeros(n_pairs), np.zeros(n_pairs)
    present, first = np.unique(pair, return_index=True)
    if len(present):
        greatest[present] = np.maximum.reduceat(f1, first)
        at_greatest = np.flatnonzero(f1 == greatest[pair])
        present, first = np.unique(pair[at_greatest], return_index=True)
        threshold[present] = value[at_greatest[first]]
    return greatest, threshold


def _ends(n_entries: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "n+1"]:
    return np.concatenate(([0], np.cumsum(n_entries)))
