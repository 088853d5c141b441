"""Synthetic input as large as ImageNet's validation set: images of WordNet's leaves, latents that prefer a node."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from benchmarks.hierarchy.leaves import wordnet_leaves

from hsae.taxonomy import InducedTaxonomy

PREFERENCE = 3.0
"""How much stronger a latent is, in standard deviations, on the images of the node that it prefers."""
DEAD_SHARE = 0.05
_BLOCK_IMAGES = 1024


@dataclass(frozen=True, slots=True)
class Size:
    """How much is scored, and on how much of it the others are timed (the rest is extrapolated)."""

    n_images: int
    n_latents: int
    n_classes: int
    l0: int
    d_model: int
    n_pairs_sampled: int
    n_latents_sampled: int
    n_rows_sampled: int
    n_repeats: int


SIZES = {
    "small": Size(2_000, 256, 100, 16, 64, 40, 64, 128, 1),
    "default": Size(50_000, 12_288, 1_000, 64, 768, 60, 512, 256, 3),
}


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The input. `z`: activations in CSR; `labels`: class of every image; `embeddings`: float32[n_images, d_model]."""

    z: "sp.csr_array[np.float32]"
    labels: np.ndarray
    embeddings: np.ndarray
    taxonomy: InducedTaxonomy


def make_work(size: Size) -> Work:
    """Images of WordNet's animals and artifacts, and latents that each prefer one node; some are dead.

    On every image the strongest `l0` latents fire, as in a TopK SAE. Latents of nodes near the root fire on most
    images, those of leaves on few.
    """
    rng = np.random.default_rng(0)
    taxonomy = wordnet_leaves(size.n_classes)
    labels = rng.permutation(np.arange(size.n_images) % size.n_classes)
    is_under = taxonomy.closure.toarray() > 0
    prefers = is_under[:, rng.integers(0, is_under.shape[1], size.n_latents)] * np.float32(PREFERENCE)
    prefers[:, rng.random(size.n_latents) < DEAD_SHARE] = -np.inf
    columns, values = [], []
    for first in range(0, size.n_images, _BLOCK_IMAGES):
        block = labels[first : first + _BLOCK_IMAGES]
        strength = rng.standard_normal((len(block), size.n_latents), dtype=np.float32) + prefers[block]
        fires = np.sort(np.argpartition(strength, -size.l0, axis=1)[:, -size.l0 :], axis=1)
        columns.append(fires.astype(np.int32))
        values.append(np.maximum(np.take_along_axis(strength, fires, axis=1), np.float32(0)))
    indptr = np.arange(0, size.n_images * size.l0 + 1, size.l0)
    flat = (np.concatenate(values).ravel(), np.concatenate(columns).ravel(), indptr)
    z = sp.csr_array(flat, shape=(size.n_images, size.n_latents))
    z.eliminate_zeros()
    centres = rng.standard_normal((is_under.shape[1], size.d_model), dtype=np.float32)
    embeddings = (taxonomy.closure.astype(np.float32) @ centres)[labels]
    embeddings += rng.standard_normal(embeddings.shape, dtype=np.float32)
    return Work(z, labels, embeddings, taxonomy)


def first_images(work: Work, n_images: int) -> Work:
    """The same on the first images only."""
    return Work(work.z[:n_images], work.labels[:n_images], work.embeddings[:n_images], work.taxonomy)
