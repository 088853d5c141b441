"""Controls of a trained SAE: thinned dense bases, shuffled labels, a shuffled taxonomy.

A control is another pair of (activations, labels), scored by the same code as the SAE.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64, Int, Int64

from hsae.hierarchy.controls.bases import DenseBasis
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.scores.node_scores import NodeSums
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.label_sets import Labels
from hsae.hierarchy.statistics.ranks import rank_activations

_BLOCK_VALUES = 1 << 22
_MIN_BLOCK_COLUMNS = 64
"""Fewer columns per projection would read the activations too often."""


def shuffle_labels(labels: Labels, seed: int | Sequence[int]) -> Labels:
    """Permute the images' labels: class sizes stay, and labels no longer depend on what an image shows.

    Labels of one image stay together.
    """
    order = np.random.Generator(np.random.PCG64(seed)).permutation(labels.shape[0])
    return labels[order]


def shuffle_taxonomy(labels: Labels, n_classes: int, seed: int) -> Labels:
    """Permute the classes over the tree: a class keeps its images and gets random neighbours.

    To move class `l` to the position of class `pi(l)` in the tree is the same as to relabel its images `pi(l)`: nodes,
    closure, heights and hypernyms stay, and every inner node has as many classes as before.
    """
    places = np.random.Generator(np.random.PCG64(seed)).permutation(n_classes)
    if not sp.issparse(labels):
        return np.take(places, labels)
    moved = sp.csr_array((labels.data, places[labels.indices], labels.indptr), shape=labels.shape)
    moved.sort_indices()
    return moved


def thin(basis: DenseBasis, n_kept: int, *, check: Callable[[], None] = go_on) -> "sp.csr_array[np.float32]":
    """Make a dense basis sparse: keep the `n_kept` values of greatest magnitude of every image.

    Among equal values at the cut, the lower index is kept; zeros are never kept. Besides the result, memory holds one
    block of images. `check` is called for every block and may raise to stop.

    Returns:
        float32[n_images, n_columns], not negative; same columns as the basis.
    """
    n_stored, columns, values = [], [], []
    height = max(1, _BLOCK_VALUES // basis.n_columns)
    for first in range(0, basis.n_images, height):
        check()
        block = basis.values(slice(first, first + height))
        n_values = block.shape[1]
        n_here = min(n_kept, n_values)
        strength = np.abs(block)
        cut = np.partition(strength, n_values - n_here, axis=1)[:, [n_values - n_here]]
        is_above, is_at = strength > cut, strength == cut
        n_open = n_here - is_above.sum(axis=1, keepdims=True)
        row, index = np.nonzero((is_above | (is_at & (np.cumsum(is_at, axis=1) <= n_open))) & (strength > 0))
        value = block[row, index]
        n_stored.append(np.bincount(row, minlength=len(block)))
        columns.append(np.where(value > 0, index, index + n_values))
        values.append(np.abs(value))
    indptr = np.concatenate(([0], np.cumsum(np.concatenate(n_stored))))
    data = np.concatenate(values).astype(np.float32)
    shape = (basis.n_images, basis.n_columns)
    return sp.csr_array((data, np.concatenate(columns).astype(np.int32), indptr), shape=shape)


def unthinned_auroc(
    basis: DenseBasis,
    labels: Int64[np.ndarray, "n_images"],
    closure: "sp.csr_array[np.uint8]",
    latents: Int[np.ndarray, "n_pairs"],
    nodes: Int[np.ndarray, "n_pairs"],
    *,
    device: Device = "cpu",
    check: Callable[[], None] = go_on,
) -> Float64[np.ndarray, "n_pairs"]:
    """AUROC of chosen pairs of a dense basis without thinning; NaN where undefined.

    Args:
        basis: the dense basis.
        labels: class of every image.
        closure: [n_classes, n_nodes].
        latents: column of every pair.
        nodes: node of every pair.
        device: where columns are ranked and pairs scored.
        check: called for every block of columns; may raise to stop.
    """
    n_classes = int(closure.shape[0])
    auroc = np.full(len(latents), np.nan)
    columns, which = np.unique(latents, return_inverse=True)
    width = max(_MIN_BLOCK_COLUMNS, _BLOCK_VALUES // basis.n_images)
    for first in range(0, len(columns), width):
        check()
        block = columns[first : first + width]
        ranked = rank_activations(sp.csr_array(basis.columns(block)), device=device)
        sums = sum_by_class(ranked, labels, n_classes, device=device)
        here = np.flatnonzero((which >= first) & (which < first + len(block)))
        auroc[here] = (
            NodeSums(sums, closure, device=device).pairs(which[here] - first, nodes[here]).auroc().cpu().numpy()
        )
    return auroc


def n_kept_like(n_fire: Int64[np.ndarray, "n_latents"], n_images: int) -> int:
    """The SAE's mean L0 per image, rounded, at least 1: an SAE with almost no live latent needs a control, too."""
    return max(1, round(int(n_fire.sum()) / n_images))
