"""Work on blocks of latents on several cores at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from hsae.hierarchy.kernels.device import Device

_Result = TypeVar("_Result")


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
