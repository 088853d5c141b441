"""Which latent carries a direction on an image: the one that writes most of the image's projection."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64, Int64

from hsae.hierarchy.kernels.blocks import ranges

CARRIED_SHARE = 0.4
"""Least share of the projection that the absorbing latent contributes (as in SAEBench's evaluation of absorption)."""

MIN_COSINE = 0.025
"""Least cosine of the absorbing latent's decoder with the direction (arXiv 2409.14507)."""


def carriers(
    fired: "sp.csr_array[np.float64]",
    images: Int64[np.ndarray, "n"],
    projection: Float64[np.ndarray, "n"],
    contribution: Float64[np.ndarray, "n_latents"],
    length: Float64[np.ndarray, "n_latents"],
) -> Int64[np.ndarray, "n"]:
    """The latent that carries a direction on each of some images, -1 where none does.

    Where the projection is negative, the direction is turned round.

    Args:
        fired: activations that fire, latents ascending.
        images: rows of `fired`.
        projection: of these images on the direction.
        contribution: of every latent to the projection, per unit of its activation.
        length: of every latent's decoder.
    """
    carrier = np.full(len(images), -1)
    entry, place = ranges(fired.indptr[images].astype(np.int64), np.diff(fired.indptr)[images].astype(np.int64))
    if not len(entry):
        return carrier
    sign = np.where(projection < 0, -1.0, 1.0)[place]
    latent = fired.indices[entry]
    given = fired.data[entry] * contribution[latent] * sign
    first = np.flatnonzero(np.diff(place, prepend=-1))
    greatest = np.full(len(images), -np.inf)
    greatest[place[first]] = np.maximum.reduceat(given, first)
    at_greatest = np.flatnonzero(given == greatest[place])
    with_any, which = np.unique(place[at_greatest], return_index=True)
    at = at_greatest[which]
    size = np.abs(projection[with_any])
    aligned = contribution[latent[at]] * sign[at] >= MIN_COSINE * length[latent[at]]
    carries = (size > 0) & (given[at] > 0) & (given[at] >= CARRIED_SHARE * size) & aligned
    carrier[with_any[carries]] = latent[at[carries]]
    return carrier
