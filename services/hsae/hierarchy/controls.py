"""What a trained SAE is compared with: raw neurons, shuffled labels, a shuffled taxonomy.

Every control is only another pair of (activations, labels) that goes through the very same scoring code.
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int, Int64

from hsae.errors import UserError
from hsae.hierarchy.class_sums import sum_by_class
from hsae.hierarchy.label_sets import Labels
from hsae.hierarchy.node_scores import NodeSums
from hsae.hierarchy.ranks import rank_activations

_BLOCK_VALUES = 1 << 22


def shuffle_labels(labels: Labels, seed: int) -> Labels:
    """Permute the images' labels: class sizes stay, what an image shows no longer matters.

    Labels that an image has together stay together.
    """
    order = np.random.Generator(np.random.PCG64(seed)).permutation(labels.shape[0])
    return labels[order]


def shuffle_taxonomy(labels: Labels, n_classes: int, seed: int) -> Labels:
    """Permute the classes over the tree: a class keeps its images, its neighbours become random.

    Moving class `l` to the place of class `pi(l)` in the tree is the same as calling its images `pi(l)`:
    nodes, closure, heights and hypernyms stay as they are, and every inner node holds as many classes as
    before.
    """
    places = np.random.Generator(np.random.PCG64(seed)).permutation(n_classes)
    if not sp.issparse(labels):
        return np.take(places, labels)
    moved = sp.csr_array((labels.data, places[labels.indices], labels.indptr), shape=labels.shape)
    moved.sort_indices()
    return moved


def thin_neurons(activations: Float32[np.ndarray, "n_images d_model"], n_kept: int) -> "sp.csr_array[np.float32]":
    """Raw neurons as a sparse basis: split by sign, the strongest `n_kept` of every image kept.

    Nothing is centred or scaled. At the cut the neuron with the lower index wins; zeros are never kept.

    Returns:
        float32[n_images, 2 * d_model]: column `d` is the positive part of neuron `d`, column `d_model + d`
        its negative part (as a positive number).

    Raises:
        UserError: the activations hold NaN or infinite values.
    """
    n_images, d_model = activations.shape
    _check_finite(activations)
    n_kept = min(n_kept, d_model)
    n_stored, columns, values = [], [], []
    height = max(1, _BLOCK_VALUES // max(1, d_model))
    for first in range(0, n_images, height):
        block = activations[first : first + height]
        strength = np.abs(block)
        cut = np.partition(strength, d_model - n_kept, axis=1)[:, [d_model - n_kept]]
        is_above, is_at = strength > cut, strength == cut
        n_open = n_kept - is_above.sum(axis=1, keepdims=True)
        row, neuron = np.nonzero((is_above | (is_at & (np.cumsum(is_at, axis=1) <= n_open))) & (strength > 0))
        value = block[row, neuron]
        n_stored.append(np.bincount(row, minlength=len(block)))
        columns.append(np.where(value > 0, neuron, neuron + d_model))
        values.append(np.abs(value))
    indptr = np.concatenate(([0], np.cumsum(np.concatenate(n_stored))))
    data = np.concatenate(values).astype(np.float32)
    shape = (int(n_images), 2 * int(d_model))
    return sp.csr_array((data, np.concatenate(columns).astype(np.int32), indptr), shape=shape)


def unthinned_auroc(
    activations: Float32[np.ndarray, "n_images d_model"],
    labels: Int64[np.ndarray, "n_images"],
    closure: "sp.csr_array[np.uint8]",
    latents: Int[np.ndarray, "n_pairs"],
    nodes: Int[np.ndarray, "n_pairs"],
) -> Float64[np.ndarray, "n_pairs"]:
    """AUROC of chosen pairs of the sign-split neurons when nothing is thinned away; NaN where undefined.

    Args:
        activations: raw neurons.
        labels: class of every image.
        closure: [n_classes, n_nodes].
        latents: columns as in `thin_neurons`.
        nodes: nodes of the pairs.
    """
    n_images, d_model = activations.shape
    n_classes = int(closure.shape[0])
    auroc = np.full(len(latents), np.nan)
    columns, which = np.unique(latents, return_inverse=True)
    width = max(1, _BLOCK_VALUES // n_images)
    for first in range(0, len(columns), width):
        block = columns[first : first + width]
        sign = np.where(block < d_model, 1, -1).astype(np.float32)
        parts = np.maximum(activations[:, block % d_model] * sign, 0)
        sums = sum_by_class(rank_activations(sp.csr_array(parts)), labels, n_classes)
        here = np.flatnonzero((which >= first) & (which < first + len(block)))
        auroc[here] = NodeSums(sums, closure).pairs(which[here] - first, nodes[here]).auroc().numpy()
    return auroc


def n_kept_like(n_fire: Int64[np.ndarray, "n_latents"], n_images: int) -> int:
    """The SAE's mean L0 per image, rounded; 1 at least: an SAE that is all but dead needs a control, too."""
    return max(1, round(int(n_fire.sum()) / n_images))


def _check_finite(activations: Float32[np.ndarray, "n_images d_model"]) -> None:
    is_bad = ~np.isfinite(activations)
    if is_bad.any():
        image, neuron = np.argwhere(is_bad)[0]
        raise UserError(
            f"the activations hold {int(is_bad.sum())} NaN or infinite values (the first: image {image}, "
            f"neuron {neuron}): extract them again"
        )
