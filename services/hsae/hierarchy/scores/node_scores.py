"""Scores of (latent, node) pairs: how well "the latent fires" predicts "the image is under the node".

Every score is a function of sums over the node's images, and these are the product of the class sums with the
taxonomy's closure. Counts and rank sums are integers below 2**53, which float64 represents exactly. A ratio of two of
them is rounded once (AUROC a second time, when 1/2 is added), so pairs that tie in exact arithmetic tie here, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float64, Int, Int32, Int64
from torch import Tensor

from hsae.hierarchy.kernels.back_off import in_parts
from hsae.hierarchy.kernels.blocks import latent_blocks, ranges
from hsae.hierarchy.kernels.closure_product import ClosureProduct, classes_in_runs
from hsae.hierarchy.kernels.dense_columns import DenseColumns
from hsae.hierarchy.kernels.device import Device, is_cpu, to_device
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.scores.pair_sums import NodeScores, PairSums
from hsae.hierarchy.statistics.class_sums import ClassSums

_BLOCK_LATENTS = 252
"""Latents per product: the factors fit the processor's cache. It is no power of two, so that rows map to different
cache sets."""

_BLOCK_CELLS = 1 << 22
"""Upper bound of latents times classes per product; images with several labels can have many label sets."""

_BLOCK_LATENTS_GPU = 4096
_BLOCK_CELLS_GPU = 1 << 26
"""Upper bound of latents times classes, and times nodes, on a GPU: 512 MB for each of about ten matrices."""

_BLOCK_ENTRIES = 1 << 19
"""Class sums of chosen pairs that are added up at a time."""


class NodeSums:
    """Product of the class sums of one analysis with a closure, block by block of latents.

    Attributes:
        n_node: number of images under every node.
        latents_with_test: bool[n_latents], whether the latent has an AUROC and a test (it is not constant).
        nodes_with_test: bool[n_nodes], whether the node has an AUROC and a test (some images, but not all).
        device: device of the sums.
    """

    def __init__(self, sums: ClassSums, closure: "sp.csr_array[np.uint8]", *, device: Device = "cpu") -> None:
        """Take `closure` [n_classes, n_nodes] in any node order; results have the same order and are on the device."""
        n_classes, n_nodes = closure.shape
        if n_classes != sums.n_classes:
            raise ValueError(f"class sums of {sums.n_classes} classes, a closure of {n_classes}")
        self.sums = sums
        self._closure = closure
        self.n_nodes = int(n_nodes)
        self.n_node = np.asarray(closure.T.astype(np.float64) @ sums.class_sizes.astype(np.float64))
        n = float(sums.n_images)
        variance = n + 1.0 - sums.tie_term / (n * (n - 1.0)) if n > 1 else np.zeros(sums.n_latents)
        # It is at least 3 if one image differs from the rest; a smaller value is the rounding error of a constant
        # latent.
        self._rank_variance = np.where(variance < 1.0, 0.0, variance)
        self._n_fire = sums.latent_fire_counts()
        self.device = device
        self.latents_with_test = self._rank_variance > 0.0
        self.nodes_with_test = (self.n_node > 0.0) & (self.n_node < n)

    @cached_property
    def _product(self) -> tuple[Int64[np.ndarray, "n_classes"], ClosureProduct]:
        """The place of every class in the product, and the product: what only sums of whole blocks need."""
        # The last row sums over all classes. A latent's total mass is then summed in the same order as its mass under a
        # node, so that no share exceeds 1 and no mean outside is negative.
        under = sp.csr_array(self._closure.T.astype(np.float64))
        everything = sp.csr_array(np.ones((1, self.sums.n_classes)))
        ancestors = sp.csr_array(sp.vstack((under, everything), format="csr"))
        order = classes_in_runs(self._closure)
        return np.argsort(order), ClosureProduct(sp.csr_array(ancestors[:, order]), self.device)

    @cached_property
    def _class_sizes(self) -> Float64[Tensor, "n_classes 1"]:
        """Number of images of the classes, in their places in the product."""
        return self._on_device(self.sums.class_sizes[np.argsort(self._product[0])]).double()[:, None]

    def block(self, latents: slice, *, with_mass: bool, with_ranks: bool = True) -> PairSums:
        """Sums of a range of latents with every node; the tensors have shape [n_nodes, n_latents of the range]."""
        sums, by_class = self.sums, self._by_class(latents)
        under = self._product[1]
        n_both = under.of_integers(by_class(sums.n_fire))
        rank_deviation = None
        if with_ranks:
            deviation = by_class(sums.rank_excess)
            # With R the node's rank sum, U = R - n_v (n_v + 1) / 2; the zeros' ranks cancel.
            n_nonzero = self._on_device(sums.n_nonzero[latents]).double()
            deviation.addcmul_(self._class_sizes, n_nonzero, value=-1.0)
            rank_deviation = under.of_integers(deviation)[:-1]
        mass = under(by_class(sums.mass)) if with_mass else None
        return PairSums(
            n_images=sums.n_images,
            n_node=self._on_device(self.n_node)[:, None],
            n_fire=self._on_device(self._n_fire[latents]).double()[None],
            rank_variance=self._on_device(self._rank_variance[latents])[None],
            n_both=n_both[:-1],
            rank_deviation=rank_deviation,
            mass=None if mass is None else mass[:-1],
            latent_mass=None if mass is None else mass[-1:],
        )

    def _by_class(self, latents: slice) -> Callable[[np.ndarray], Float64[Tensor, "n_classes n_latents"]]:
        """Makes a matrix of a range of latents from values of all entries."""
        sums = self.sums
        first, end, _ = latents.indices(sums.n_latents)
        entries = slice(int(sums.indptr[first]), int(sums.indptr[end]))
        indptr = sums.indptr[first : end + 1] - entries.start
        place = self._product[0].take(sums.classes[entries])
        dense = DenseColumns(indptr, place, sums.n_classes, self.device)
        return lambda values: dense(values[entries])

    def pairs(self, latents: Int[np.ndarray, "n_pairs"], nodes: Int[np.ndarray, "n_pairs"]) -> PairSums:
        """Sums of chosen pairs, including masses; the tensors have shape [n_pairs].

        They are summed on the CPU, pair by pair over the latent's classes: a product with every node would compute
        thousands of sums for each that is wanted. The order of the classes is that of a product on the CPU.
        """
        sums = self.sums
        nodes = np.asarray(nodes, np.int64)
        n_entries = np.diff(sums.indptr)[latents]
        n_both, rank_sum, mass = (np.zeros(len(nodes)) for _ in range(3))
        for run in latent_blocks(np.concatenate(([0], np.cumsum(n_entries))), max_nonzeros=_BLOCK_ENTRIES):
            entry, pair = ranges(sums.indptr[latents[run]], n_entries[run])
            hit = np.flatnonzero(self._is_under[nodes[run][pair], sums.classes[entry]])
            entry, pair = entry[hit], pair[hit]
            for total, values in ((n_both, sums.n_fire), (rank_sum, sums.rank_excess), (mass, sums.mass)):
                total[run] = np.bincount(pair, values[entry], minlength=run.stop - run.start)
        n_node = self.n_node[nodes]
        return PairSums(
            n_images=sums.n_images,
            n_node=self._on_device(n_node),
            n_fire=self._on_device(self._n_fire[latents]).double(),
            rank_variance=self._on_device(self._rank_variance[latents]),
            n_both=self._on_device(n_both),
            rank_deviation=self._on_device(rank_sum - n_node * sums.n_nonzero[latents]),
            mass=self._on_device(mass),
            latent_mass=self._on_device(self._latent_mass[latents]),
        )

    def hits(
        self, latents: slice
    ) -> tuple[Int64[np.ndarray, "n_pairs"], Int32[np.ndarray, "n_pairs"], Float64[np.ndarray, "n_pairs"]]:
        """Latent, node and `n_both` of all pairs of a range of latents with an image in common, latents ascending.

        They are a small part of all pairs, and a sparse product on the CPU finds them alone.
        """
        sums = self.sums
        first, end, _ = latents.indices(sums.n_latents)
        entries = slice(int(sums.indptr[first]), int(sums.indptr[end]))
        indptr = sums.indptr[first : end + 1] - entries.start
        values = sums.n_fire[entries].astype(np.float64)
        counts = sp.csr_array((values, sums.classes[entries], indptr), shape=(end - first, sums.n_classes))
        both = sp.csr_array(counts @ self._ancestors)
        both.eliminate_zeros()  # below the threshold a latent is not 0, and yet does not fire
        return np.repeat(np.arange(first, end), np.diff(both.indptr)), both.indices, both.data

    @cached_property
    def _ancestors(self) -> "sp.csr_array[np.float64]":
        return sp.csr_array(self._closure.astype(np.float64))

    def with_known_counts(
        self,
        latents: Int64[np.ndarray, "n_pairs"],
        nodes: Int32[np.ndarray, "n_pairs"],
        n_both: Float64[np.ndarray, "n_pairs"],
    ) -> PairSums:
        """Sums of pairs of which `n_both` is known, in CPU memory: for scores of firing alone."""
        return PairSums(
            n_images=self.sums.n_images,
            n_node=torch.from_numpy(self.n_node[nodes]),
            n_fire=torch.from_numpy(self._n_fire[latents]).double(),
            rank_variance=torch.from_numpy(self._rank_variance[latents]),
            n_both=torch.from_numpy(n_both),
        )

    @cached_property
    def _is_under(self) -> Bool[np.ndarray, "n_nodes n_classes"]:
        return np.ascontiguousarray(self._closure.toarray().T > 0)

    @cached_property
    def _latent_mass(self) -> Float64[np.ndarray, "n_latents"]:
        row = np.repeat(np.arange(self.sums.n_latents), np.diff(self.sums.indptr))
        return np.bincount(row, self.sums.mass, minlength=self.sums.n_latents)

    def _on_device(self, values: np.ndarray) -> Tensor:
        return to_device(values, self.device)

    def latent_runs(self, *, device: Device | None = None) -> Iterator[slice]:
        """The blocks of latents in which they are scored.

        Args:
            device: where they are; None: that of the sums.
        """
        if is_cpu(self.device if device is None else device):
            width = min(_BLOCK_LATENTS, _BLOCK_CELLS // self.sums.n_classes)
        else:
            width = min(_BLOCK_LATENTS_GPU, _BLOCK_CELLS_GPU // max(self.sums.n_classes, self.n_nodes))
        width = max(1, width)
        for first in range(0, self.sums.n_latents, width):
            yield slice(first, min(first + width, self.sums.n_latents))


def iter_node_scores(
    sums: ClassSums,
    closure: "sp.csr_array[np.uint8]",
    *,
    device: Device = "cpu",
) -> Iterator[tuple[slice, NodeScores]]:
    """Scores of every pair, block by block of latents.

    Args:
        sums: class sums of the analysis.
        closure: [n_classes, n_nodes], from `sums.closure`.
        device: device for the scoring; the results are in CPU memory.

    Yields:
        A range of latents and their scores, arrays of shape [n_latents of the range, n_nodes].
    """
    node_sums = NodeSums(sums, closure, device=device)

    def score(latents: slice) -> tuple[slice, NodeScores]:
        return latents, NodeScores.of(node_sums.block(latents, with_mass=True), transposed=True)

    # As many at a time as on the CPU: all scores of a pair go there, and its p-value is computed there.
    yield from map_blocks(score, node_sums.latent_runs(device="cpu"), device)


def score_pairs(
    node_sums: NodeSums, latents: Int32[np.ndarray, "n_pairs"], nodes: Int32[np.ndarray, "n_pairs"]
) -> NodeScores:
    """Scores of chosen pairs, arrays of shape [n_pairs]."""

    def score(pairs: slice) -> NodeScores:
        return NodeScores.of(node_sums.pairs(latents[pairs], nodes[pairs]))

    parts = list(in_parts(score, [slice(0, len(latents))], node_sums.device))
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in fields(NodeScores)]
    return NodeScores(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
