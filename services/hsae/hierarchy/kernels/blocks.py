"""Latents and columns in blocks, to bound the memory of work on them."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

_BLOCK_NONZEROS = 1 << 16
"""Small enough that the temporaries of a block fit the cache of a large processor."""

_BLOCK_NONZEROS_GPU = 1 << 24
"""Enough to keep a GPU busy between two of the host's calls; the temporaries of such a block take about 2 GB."""

_BLOCK_VALUES = 1 << 22
_BLOCK_VALUES_GPU = 1 << 26
"""Values of columns that are projected and put in order at once; on a GPU a matrix of them takes 256 MB."""

_MIN_BLOCK_COLUMNS = 64
"""Fewer columns per projection would read the activations too often."""


def go_on() -> None:
    """The default of `check`: never stops the work."""


def latent_blocks(
    indptr: Int64[np.ndarray, "n_latents+1"], *, max_nonzeros: int | None = None, on_gpu: bool = False
) -> Iterator[slice]:
    """Split the latents into ranges of at most `max_nonzeros` non-zeros each; a range has at least one latent.

    Without `max_nonzeros` a range is as large as suits the CPU, or a GPU.
    """
    if max_nonzeros is None:
        max_nonzeros = _BLOCK_NONZEROS_GPU if on_gpu else _BLOCK_NONZEROS
    n_latents = len(indptr) - 1
    first = 0
    while first < n_latents:
        end = int(np.searchsorted(indptr, indptr[first] + max_nonzeros, side="right")) - 1
        end = max(first + 1, min(end, n_latents))
        yield slice(first, end)
        first = end


def column_blocks(n_columns: int, n_images: int, *, on_gpu: bool = False) -> Iterator[slice]:
    """Split columns of so many images into ranges of a size that suits the CPU, or a GPU, whatever memory is left.

    The size decides last digits of their projections.
    """
    width = max(_MIN_BLOCK_COLUMNS, (_BLOCK_VALUES_GPU if on_gpu else _BLOCK_VALUES) // n_images)
    for first in range(0, n_columns, width):
        yield slice(first, min(first + width, n_columns))


def ranges(
    start: Int64[np.ndarray, "n_runs"], length: Int64[np.ndarray, "n_runs"]
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """The numbers `start[i] .. start[i] + length[i] - 1` of all runs, concatenated, and the index of each one's run."""
    run = np.repeat(np.arange(len(start)), length)
    offset = start - (np.cumsum(length) - length)
    return np.arange(len(run)) + offset[run], run
