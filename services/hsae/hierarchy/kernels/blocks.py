"""The latents in blocks, so that work on them is bounded in memory."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

_BLOCK_NONZEROS = 1 << 16
"""A block's temporaries then stay in a large processor's cache."""


def go_on() -> None:
    """The `check` that never stops anything."""


def latent_blocks(indptr: Int64[np.ndarray, "n_latents+1"], *, max_nonzeros: int | None = None) -> Iterator[slice]:
    """Cut the latents into runs of a bounded number of non-zeros (a run holds one latent at least)."""
    max_nonzeros = _BLOCK_NONZEROS if max_nonzeros is None else max_nonzeros
    n_latents = len(indptr) - 1
    first = 0
    while first < n_latents:
        end = int(np.searchsorted(indptr, indptr[first] + max_nonzeros, side="right")) - 1
        end = max(first + 1, min(end, n_latents))
        yield slice(first, end)
        first = end


def ranges(
    start: Int64[np.ndarray, "n_runs"], length: Int64[np.ndarray, "n_runs"]
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """The numbers `start[i] .. start[i] + length[i] - 1` of all runs end to end, and the run of each."""
    run = np.repeat(np.arange(len(start)), length)
    offset = start - (np.cumsum(length) - length)
    return np.arange(len(run)) + offset[run], run
