"""Adjusted F1 of the best latent of every node, with the classes permuted over the tree.

The best latent of a node is chosen anew under every permutation, on the select images. That takes the F1 of every
latent at every permuted node: one dense product of firing counts with the permuted closure, exact because the counts
are integers below 2**24, which float32 represents exactly in sums of any order.
"""

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.resampling.measured import Measured, fire_counts, mean_defined, members_of
from hsae.hierarchy.resampling.resampled import Headline
from hsae.hierarchy.scores.adjusted_f1 import adjusted_f1
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.taxonomy import InducedTaxonomy

_BLOCK_CELLS = 1 << 26
"""Upper bound of latents times classes whose counts are dense at a time: 256 MiB."""

_TILE_LATENTS = 1024
"""Latents per product, so that its result stays in the cache."""

_EXACT_IN_FLOAT32 = 1 << 24
_ROUNDING = 1e-5
"""Of a latent that rounding may have put below the best one; far more than float32 rounds."""

Places = Int64[np.ndarray, "n_classes"]


def shuffled_f1(
    measured: Measured, permutations: list[Places], *, device: Device = "cpu", check: Callable[[], None] = go_on
) -> dict[Headline, Float64[np.ndarray, " n_permutations"]]:
    """Mean adjusted F1 over inner nodes and over all distinct nodes, under every permutation.

    Args:
        measured: the basis.
        permutations: for every class its place in the tree.
        device: where the products are computed; the result is the same on every device.
        check: called for every product; may raise to stop.
    """
    taxonomy = measured.taxonomy
    nodes = np.flatnonzero(measured.nodes.counts)
    leaf_counts = np.asarray(taxonomy.leaf_counts)[nodes]
    several, single = nodes[leaf_counts > 1], nodes[leaf_counts == 1]
    columns = taxonomy.closure[:, several]
    adjusted = np.empty((len(permutations), len(nodes)))
    adjusted[:, leaf_counts > 1] = _best_f1(
        measured,
        lambda sums: (_under(sums, taxonomy, columns, places) for places in permutations),
        len(permutations),
        device,
        check,
    )
    # A node of one class has, wherever that class is, the images of one class: its F1 is that of the class.
    of_class = _best_f1(measured, lambda sums: iter([members_of(sums, measured.n_classes)]), 1, device, check)[0]
    class_at = sp.csc_array(taxonomy.closure[:, single]).indices
    for row, places in enumerate(permutations):
        adjusted[row, leaf_counts == 1] = of_class[np.argsort(places)[class_at]]
    inner = measured.nodes.strata()[2][nodes]
    return {
        "f1_adjusted_inner_mean": mean_defined(adjusted[:, inner]),
        "f1_adjusted_mean": mean_defined(adjusted),
    }


def _under(
    sums: ClassSums, taxonomy: InducedTaxonomy, columns: "sp.csr_array[np.uint8]", places: Places
) -> "sp.csr_array[np.uint8]":
    """The closure after the permutation, of the classes or label sets and some nodes: [n_items, n_nodes]."""
    moved = sp.csr_array(columns[places])
    if sums.set_indptr is None:
        return moved
    n_under = members_of(sums, len(places)).astype(np.int32) @ moved.astype(np.int32)
    return sp.csr_array((np.ones(n_under.nnz, np.uint8), n_under.indices, n_under.indptr), shape=n_under.shape)


def _best_f1(
    measured: Measured,
    closures: Callable[[ClassSums], Iterator["sp.csr_array"]],
    n_closures: int,
    device: Device,
    check: Callable[[], None],
) -> Float64[np.ndarray, "n_closures n_nodes"]:
    """Adjusted F1, on the score images, of each node's best latent on the select images; NaN where undefined."""
    select, score = measured.select, measured.score
    best = [_Best.none() for _ in range(n_closures)]
    n_fire = select.latent_fire_counts()
    counts = fire_counts(select)
    dtype = torch.float32 if select.n_images < _EXACT_IN_FLOAT32 else torch.float64
    width = max(1, _BLOCK_CELLS // select.n_classes)
    for first in range(0, select.n_latents, width):
        run = slice(first, min(first + width, select.n_latents))
        block = torch.from_numpy(counts[run].toarray().T.copy()).to(device, dtype)
        for number, closure in enumerate(closures(select)):
            check()
            under = torch.from_numpy(closure.T.toarray().astype(np.float32)).to(device, dtype)
            n_node = closure.T.astype(np.float64) @ select.class_sizes.astype(np.float64)
            for start in range(0, run.stop - run.start, _TILE_LATENTS):
                tile = slice(start, start + _TILE_LATENTS)
                best[number].add(first + start, under @ block[:, tile], n_fire[run][tile], n_node)
    score_counts = fire_counts(score)
    score_fires = score.latent_fire_counts()
    rows = []
    for found, closure in zip(best, closures(score), strict=True):
        latents = np.maximum(found.latent, 0)
        n_both = np.asarray(score_counts[latents].multiply(sp.csr_array(closure.T)).sum(axis=1)).ravel()
        n_node = closure.T.astype(np.float64) @ score.class_sizes.astype(np.float64)
        f1 = np.where(found.latent >= 0, 2.0 * n_both / np.maximum(score_fires[latents] + n_node, 1.0), 0.0)
        rows.append(adjusted_f1(f1, n_node, score.n_images))
    return np.stack(rows)


class _Best:
    """The best latent of every node so far, by exact F1, the lower index on ties; blocks arrive in order."""

    def __init__(self, f1: Float64[np.ndarray, "n_nodes"], latent: Int64[np.ndarray, "n_nodes"]) -> None:
        self.f1, self.latent = f1, latent

    @classmethod
    def none(cls) -> "_Best":
        return cls(np.empty(0), np.empty(0, np.int64))

    def add(
        self,
        first: int,
        n_both: Float32[Tensor, "n_nodes n_latents"],
        n_fire: Int64[np.ndarray, "n_latents"],
        n_node: Float64[np.ndarray, "n_nodes"],
    ) -> None:
        """Merge a block of latents, of which `first` is the first."""
        if not len(self.f1):
            self.f1, self.latent = np.zeros(len(n_node)), np.full(len(n_node), -1, np.int64)
        fires, sizes = (torch.from_numpy(n.astype(np.float64)).to(n_both) for n in (n_fire, n_node))
        rough = fires[None] + sizes.clamp(min=1.0)[:, None]  # without images n_both is 0 all the same
        torch.div(n_both, rough, out=rough)
        most = rough.amax(dim=1)
        known = torch.from_numpy(self.f1).to(n_both)
        # Few nodes have a better latent in a later block: only there is the F1 computed exactly.
        rows = ((most > 0.0) & (2.0 * most >= known * (1.0 - _ROUNDING))).nonzero()[:, 0]
        near = rough[rows] >= most[rows, None] * (1.0 - _ROUNDING)
        row, column = near.nonzero(as_tuple=True)
        both = n_both[rows[row], column].cpu().numpy().astype(np.float64)
        node, latent = rows[row].cpu().numpy(), column.cpu().numpy()
        f1 = 2.0 * both / (n_fire[latent] + n_node[node])
        order = np.lexsort((latent, -f1, node))
        leaders = order[np.unique(node[order], return_index=True)[1]]
        better = leaders[f1[leaders] > self.f1[node[leaders]]]
        self.f1[node[better]] = f1[better]
        self.latent[node[better]] = latent[better] + first
