"""Work on the latents in blocks: bounded in memory, and on several cores at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int64

from hsae.hierarchy.device_kernels import Device

_Result = TypeVar("_Result")

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


def map_blocks(work: Callable[[slice], _Result], blocks: Iterable[slice], device: Device) -> Iterator[_Result]:
    """`work` of every block, in their order; on the CPU as many at once as torch may use threads.

    Other threads run while torch and numpy sort, count and add. Each block's result is its own, so that the number of
    threads changes nothing. Work runs ahead of its consumer by as many blocks as there are threads.
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1 or torch.device(device).type != "cpu":
        yield from map(work, blocks)
        return
    pending: deque[Future[_Result]] = deque()
    # Every core has a block: threads inside an operation would only get in each other's way.
    try:
        with ThreadPoolExecutor(n_threads, "hsae-blocks", torch.set_num_threads, (1,)) as threads:
            for block in blocks:
                pending.append(threads.submit(work, block))
                if len(pending) > n_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    finally:
        torch.set_num_threads(n_threads)  # it counts for threads begun later, too
