"""Work on blocks of latents in several threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from hsae.hierarchy.kernels.back_off import in_parts, uncut
from hsae.hierarchy.kernels.device import Device, is_cpu

_Result = TypeVar("_Result")


def map_blocks(
    work: Callable[[slice], _Result], blocks: Iterable[slice], device: Device, *, may_cut: bool = True
) -> Iterator[_Result]:
    """Yield the result of `work` for every block in order; on the CPU, run as many at once as torch has threads.

    torch and NumPy release the GIL while they sort, count and sum. No result depends on another block, so the number of
    threads changes no result. At most one block per thread is computed ahead of the consumer.

    On a GPU a block for which there is no memory is cut, and its parts come in its place (`in_parts`). Unless it may
    not be, for last digits depend on its size (`uncut`).
    """
    if not is_cpu(device):
        yield from in_parts(work, blocks, device) if may_cut else uncut(work, blocks, device)
        return
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        yield from map(work, blocks)
        return
    pending: deque[Future[_Result]] = deque()
    # Every core works on a block; further threads inside an operation would compete with them.
    try:
        with ThreadPoolExecutor(n_threads, "hsae-blocks", torch.set_num_threads, (1,)) as threads:
            for block in blocks:
                pending.append(threads.submit(work, block))
                if len(pending) > n_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    finally:
        torch.set_num_threads(n_threads)  # the setting also applies to threads started later
