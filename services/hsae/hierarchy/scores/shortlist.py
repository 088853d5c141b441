"""The pairs to store: best nodes of every latent, best latents of every node, all pairs with a high F1.

One pass over all pairs scores them and chooses, on the device of the sums; only what is chosen leaves it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int32, Int64
from torch import Tensor

from hsae.hierarchy.kernels.back_off import in_parts
from hsae.hierarchy.kernels.device import is_cpu, to_device, to_host
from hsae.hierarchy.kernels.greatest import best_of_rows
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.scores.best_of_nodes import BestOfNodes
from hsae.hierarchy.scores.node_scores import NodeSums
from hsae.taxonomy import InducedTaxonomy

N_BEST = 5
"""Number of nodes per latent, and of latents per node, to keep by F1, and again by AUROC."""

HIGH_F1 = 0.5
"""All pairs with at least this F1 are kept; a latent represents a node from this F1 on."""

_NO_PAIR = -np.inf


@dataclass(frozen=True, slots=True, eq=False)
class Shortlist:
    """The chosen pairs of one analysis and the extremes over all pairs.

    Attributes:
        latents: latent of every chosen pair; pairs are sorted by latent, then node.
        nodes: node of every chosen pair (an index into `InducedTaxonomy.synsets`).
        label: node with the best F1 of every latent, -1 for a latent that fires nowhere.
        node_best_f1: F1 of each node's best latent; 0 if no latent fires on it, NaN for a node without images. Where
            other images are scored than chosen on, it is the F1 on the scored ones (`scored_on`).
        node_best_f1_selected: the same on the images on which the latent was chosen.
        node_best_latent: the latent with the best F1, the lower index on ties; -1 if no latent fires on the node.
    """

    latents: Int32[np.ndarray, "n_pairs"]
    nodes: Int32[np.ndarray, "n_pairs"]
    label: Int32[np.ndarray, "n_latents"]
    node_best_f1: Float64[np.ndarray, "n_nodes"]
    node_best_f1_selected: Float64[np.ndarray, "n_nodes"]
    node_best_latent: Int32[np.ndarray, "n_nodes"]

    def scored_on(self, sums: NodeSums) -> "Shortlist":
        """The same choice with the F1 of other images than those that it was made on.

        Args:
            sums: sums of the scored images; nodes in the taxonomy's order.
        """
        nodes = np.flatnonzero(self.node_best_latent >= 0).astype(np.int32)
        f1 = np.where(sums.n_node > 0, 0.0, np.nan)
        found = sums.pairs(self.node_best_latent[nodes], nodes).f1().cpu().numpy()
        # A latent that does not fire there has found nothing.
        f1[nodes] = np.where(sums.n_node[nodes] > 0, np.nan_to_num(found), np.nan)
        return replace(self, node_best_f1=f1)


def shortlist(
    sums: NodeSums,
    priority: Int64[np.ndarray, "n_nodes"],
    *,
    everything: bool = True,
    on_block: Callable[[int], None] | None = None,
) -> Shortlist:
    """Choose the pairs in one pass over all pairs.

    Pairs with F1 = 0 are never chosen by F1. Ties go to the deeper node, then to the node with the lower index; among
    latents, to the lower index.

    Args:
        sums: class sums with the closure's columns reordered by `priority`.
        priority: from `node_priority`.
        everything: False keeps only the best latent of each node by F1, as for the shuffled controls.
        on_block: called with the number of latents after each block; may raise to stop.
    """
    if not everything:
        return _best_of_nodes(sums, priority, on_block)
    label = np.full(sums.sums.n_latents, -1, np.int64)
    by_f1 = _BestLatents(sums.n_nodes, N_BEST)
    by_auroc = _BestLatents(sums.n_nodes, N_BEST)
    chosen: list[np.ndarray] = []  # pairs as latent * n_nodes + node, with nodes in priority order
    search = _Search(sums)
    in_blocks = map_blocks if is_cpu(sums.device) else in_parts
    for latents, found in in_blocks(search.best_of, sums.latent_runs(), sums.device):
        chosen.append(found.pairs)
        label[latents] = found.label
        by_f1.add(latents.start, *found.of_nodes_by_f1)
        by_auroc.add(latents.start, *found.of_nodes_by_auroc)
        if on_block is not None:
            on_block(latents.stop - latents.start)
    best_f1 = np.where(sums.n_node > 0, np.maximum(by_f1.scores[:, 0], 0.0), np.nan)
    best_latent = np.empty(sums.n_nodes, np.int32)
    best_latent[priority] = np.where(by_f1.scores[:, 0] > 0, by_f1.latents[:, 0], -1)
    chosen += [by_f1.pairs(sums.n_nodes, 0.0), by_auroc.pairs(sums.n_nodes, _NO_PAIR)]
    latent, place = np.divmod(np.unique(np.concatenate(chosen)), sums.n_nodes)
    node = priority[place]
    order = np.lexsort((node, latent))
    return Shortlist(
        latents=latent[order].astype(np.int32),
        nodes=node[order].astype(np.int32),
        label=np.where(label >= 0, priority[label], -1).astype(np.int32),
        node_best_f1=_back(best_f1, priority),
        node_best_f1_selected=_back(best_f1, priority),
        node_best_latent=best_latent,
    )


def _best_of_nodes(
    sums: NodeSums, priority: Int64[np.ndarray, "n_nodes"], on_block: Callable[[int], None] | None
) -> Shortlist:
    """The best latent of each node by F1 alone, from the pairs that have an image in common."""
    best = BestOfNodes(sums.n_nodes)
    for latents in sums.latent_runs(device="cpu"):
        latent, node, n_both = sums.hits(latents)
        best.add(latent, node, sums.with_known_counts(latent, node, n_both).f1().numpy())
        if on_block is not None:
            on_block(latents.stop - latents.start)
    best_f1 = np.where(sums.n_node > 0, best.f1, np.nan)
    found = np.flatnonzero(best.latent >= 0)
    order = np.lexsort((priority[found], best.latent[found]))
    of_node = np.empty_like(best.latent)
    of_node[priority] = best.latent
    return Shortlist(
        latents=best.latent[found][order],
        nodes=priority[found][order].astype(np.int32),
        label=np.full(sums.sums.n_latents, -1, np.int32),
        node_best_f1=_back(best_f1, priority),
        node_best_f1_selected=_back(best_f1, priority),
        node_best_latent=of_node,
    )


def node_priority(taxonomy: InducedTaxonomy) -> Int64[np.ndarray, "n_nodes"]:
    """Node indices in the order that breaks ties: deeper first, then the lower index (smaller id)."""
    depth = np.asarray(taxonomy.depth, np.int64)
    return np.lexsort((np.arange(len(depth)), -depth))


class _Found(NamedTuple):
    """What a block of latents adds.

    pairs: best nodes of every latent, and all pairs with a high F1, as latent * n_nodes + node. label: the best node of
    every latent by F1, -1 without one. of_nodes_by_f1, of_nodes_by_auroc: the best latents of every node, counted from
    the first of the block, and their scores.
    """

    pairs: Int64[np.ndarray, "n_pairs"]
    label: Int64[np.ndarray, "n_latents"]
    of_nodes_by_f1: tuple[np.ndarray, np.ndarray]
    of_nodes_by_auroc: tuple[np.ndarray, np.ndarray]


class _Search:
    """Finds the best pairs of a block of latents on the device of the sums; the scores of the others stay there."""

    def __init__(self, sums: NodeSums) -> None:
        self._sums = sums
        self._is_alive = sums.sums.latent_fire_counts() > 0
        self._no_images, self._no_test = (
            to_device(nodes, sums.device)[:, None] for nodes in (sums.n_node == 0, ~sums.nodes_with_test)
        )

    def best_of(self, latents: slice) -> tuple[slice, _Found]:
        sums, first = self._sums, latents.start
        block = sums.block(latents, with_mass=False)
        f1 = self._defined(block.f1(), self._no_images, self._is_alive[latents])
        auroc = self._defined(block.auroc(), self._no_test, sums.latents_with_test[latents])
        on_device = {"high": f1 >= HIGH_F1}
        for name, scores in (("f1", f1), ("auroc", auroc)):
            of_latents = scores.T.clone(memory_format=torch.contiguous_format)
            on_device[f"{name}, nodes"], on_device[f"{name}, of latents"] = best_of_rows(of_latents, N_BEST)
            on_device[f"{name}, latents"], on_device[f"{name}, of nodes"] = best_of_rows(scores, N_BEST)
        here = to_host(on_device)
        node, latent = np.nonzero(here["high"])
        pairs = [(latent + first) * sums.n_nodes + node]
        for name, least in (("f1", 0.0), ("auroc", _NO_PAIR)):
            latent, rank = np.nonzero(here[f"{name}, of latents"] > least)
            pairs.append((latent + first) * sums.n_nodes + here[f"{name}, nodes"][latent, rank])
        return latents, _Found(
            np.concatenate(pairs),
            np.where(here["f1, of latents"][:, 0] > 0.0, here["f1, nodes"][:, 0], -1),
            (here["f1, latents"], here["f1, of nodes"]),
            (here["auroc, latents"], here["auroc, of nodes"]),
        )

    def _defined(
        self,
        scores: Float64[Tensor, "n_nodes n_latents"],
        is_undefined: Bool[Tensor, "n_nodes 1"],
        is_defined: Bool[np.ndarray, "n_latents"],
    ) -> Float64[Tensor, "n_nodes n_latents"]:
        scores.masked_fill_(is_undefined, _NO_PAIR)
        return scores.masked_fill_(to_device(~is_defined, scores.device), _NO_PAIR)


class _BestLatents:
    """The best latents of every node so far; blocks arrive in the order of the latents."""

    def __init__(self, n_nodes: int, n_best: int) -> None:
        self.latents = np.full((n_nodes, n_best), -1, np.int64)
        self.scores = np.full((n_nodes, n_best), _NO_PAIR)

    def add(self, first: int, latent: Int64[np.ndarray, "n_nodes n"], score: Float64[np.ndarray, "n_nodes n"]) -> None:
        """Merge the best of a block of latents, which are counted from `first`."""
        n_best = self.latents.shape[1]
        all_scores = np.concatenate((self.scores, score), axis=1)
        all_latents = np.concatenate((self.latents, latent + first), axis=1)
        # Earlier latents come first, so a stable sort resolves ties to the lower latent.
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :n_best]
        self.scores = np.take_along_axis(all_scores, order, axis=1)
        self.latents = np.take_along_axis(all_latents, order, axis=1)

    def pairs(self, n_nodes: int, least: float) -> Int64[np.ndarray, "n_pairs"]:
        """The kept pairs with a score above `least`, as latent * n_nodes + node."""
        node, rank = np.nonzero(self.scores > least)
        return self.latents[node, rank] * n_nodes + node


def _back(
    by_priority: Float64[np.ndarray, "n_nodes"], priority: Int64[np.ndarray, "n_nodes"]
) -> Float64[np.ndarray, "n_nodes"]:
    """Reorder from priority order to the order of the taxonomy."""
    values = np.empty_like(by_priority)
    values[priority] = by_priority
    return values
