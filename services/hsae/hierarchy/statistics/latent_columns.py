"""Transpose activations: from rows of images, shard by shard, to one column per latent."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Int32, Int64

from hsae.errors import UserError

_MAX_IMAGES = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class LatentColumns:
    """The non-zero activations, latent by latent, images ascending.

    Attributes:
        n_images: number of images, including those without activations.
        indptr: latent `j` has the entries `indptr[j]:indptr[j + 1]`.
        image: row of every entry.
        activation: its activation, greater than 0.
    """

    n_images: int
    indptr: Int64[np.ndarray, "n_latents+1"]
    image: Int32[np.ndarray, "n_nonzero"]
    activation: Float32[np.ndarray, "n_nonzero"]


def latent_columns(shards: "Iterable[sp.csr_array[np.float32]]") -> LatentColumns:
    """Transpose the rows of all shards. Memory holds the non-zeros at most twice.

    Each shard is transposed when it arrives and later copied to its position, so `shards` may be a generator that reads
    one shard at a time.

    Args:
        shards: float32[n_images of the shard, n_latents], not negative, in the order of the images; stored zeros and
            unsorted indices are allowed.

    Raises:
        UserError: there is no image or no latent, a shard has other latents than the first, or the activations hold
            NaN, infinite or negative values.
    """
    n_images, n_latents = 0, 0
    parts: list[tuple[int, sp.csc_array[np.float32]]] = []
    for shard in shards:
        if parts and shard.shape[1] != n_latents:
            raise UserError(
                f"a shard of {shard.shape[1]} latents after shards of {n_latents}: give shards of the same SAE"
            )
        n_latents = int(shard.shape[1])
        parts.append((n_images, _turned(shard, n_images)))
        n_images += int(shard.shape[0])
    if n_images == 0 or n_latents == 0:
        raise UserError(f"activations of {n_images} images and {n_latents} latents: there is nothing to score")
    if n_images >= _MAX_IMAGES:
        raise UserError(f"activations of {n_images} images: at most {_MAX_IMAGES - 1} can be ranked at once")
    if len(parts) == 1:
        ((_, only),) = parts
        image = only.indices.astype(np.int32, copy=False)
        return LatentColumns(n_images, only.indptr.astype(np.int64), image, only.data)

    counts = np.zeros(n_latents, np.int64)
    for _, part in parts:
        counts += np.diff(part.indptr)
    indptr = np.concatenate(([0], np.cumsum(counts)))
    image, activation = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    free = indptr[:-1].copy()  # the next free position of every latent
    parts.reverse()
    while parts:  # frees each part after it is copied
        first_image, part = parts.pop()
        n_new = np.diff(part.indptr)
        place = np.repeat(free - part.indptr[:-1], n_new)
        place += np.arange(part.nnz)
        image[place] = part.indices + np.int32(first_image)
        activation[place] = part.data
        free += n_new
    return LatentColumns(n_images, indptr, image, activation)


def _turned(z: "sp.csr_array[np.float32]", first_image: int) -> "sp.csc_array[np.float32]":
    """Check and transpose a shard: columns with sorted rows, no stored zeros, no duplicates."""
    if z.format != "csr" or z.dtype != np.float32:
        raise TypeError(f"activations must be float32 in CSR form, not {z.dtype} in {z.format.upper()}")
    for is_bad, what in (
        (~np.isfinite(z.data), "NaN or infinite"),
        (z.data < 0, "negative"),
    ):
        if is_bad.any():
            entry = int(np.argmax(is_bad))
            image = first_image + int(np.searchsorted(z.indptr, entry, side="right")) - 1
            raise UserError(
                f"latent activations hold {int(is_bad.sum())} {what} values (the first: image {image}, "
                f"latent {int(z.indices[entry])}); scores need finite values, 0 or greater: check the SAE"
            )
    columns = z.tocsc()
    columns.sum_duplicates()
    columns.eliminate_zeros()
    return columns
