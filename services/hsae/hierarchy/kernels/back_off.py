"""Work on blocks that goes on in smaller ones after the device ran out of memory."""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

import torch

from hsae.devices.errors import is_out_of_memory
from hsae.devices.memory import release_memory
from hsae.hierarchy.kernels.device import Device

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_n_parts: dict[torch.device, int] = {}
"""Into how many parts the blocks on a device are cut: what was too large stays so for this process."""


def in_parts(work: Callable[[slice], _Result], blocks: Iterable[slice], device: Device) -> Iterator[_Result]:
    """Yield the result of `work` for every block in order, or for every part of it where the block needs more memory.

    A part for which the device has no memory is halved, and so are all that follow; one item is tried once more, after
    what nobody needs was given back. No result may depend on where a block is cut.

    Args:
        work: called with a block or a part of one.
        blocks: ranges with a start, a stop and no step.
        device: where it works.

    Raises:
        torch.OutOfMemoryError: or another error that `is_out_of_memory` knows: a part of one item does not fit.
    """
    device = torch.device(device)
    for block in blocks:
        first, is_last_try = block.start, False
        while True:
            width = _width(block, device)
            part = slice(first, min(first + width, block.stop))
            try:
                result = work(part)
            except Exception as error:
                if is_last_try or not is_out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())
            else:
                yield result
                del result  # or it would lie beside the next one
                first, is_last_try = part.stop, False
                if first >= block.stop:
                    break
                continue
            # Outside the handler, whose traceback keeps the tensors of the failed part alive.
            is_last_try = width == 1
            while width > 1 and _width(block, device) == width:
                _n_parts[device] = 2 * _n_parts.get(device, 1)
            if is_last_try:
                _say_once_more(device, reason)
            else:
                n_now = _width(block, device)
                log.warning("no memory on %s for %d at a time, going on with %d (%s)", device, width, n_now, reason)
            release_memory(device)


def uncut(work: Callable[[slice], _Result], blocks: Iterable[slice], device: Device) -> Iterator[_Result]:
    """Yield the result of `work` for every block in order; no block is cut.

    For work with products of matrices of floats, whose size decides their last digits. A block for which the device has
    no memory is tried once more, after what nobody needs was given back.

    Raises:
        torch.OutOfMemoryError: or another error that `is_out_of_memory` knows: a block does not fit.
    """
    for block in blocks:
        yield once_more(partial(work, block), device)


def once_more(work: Callable[[], _Result], device: Device) -> _Result:
    """The result of some work; where the device has no memory, it is done again after what nobody needs was given back.

    Raises:
        torch.OutOfMemoryError: or another error that `is_out_of_memory` knows: it does not fit.
    """
    device = torch.device(device)
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
    # Outside the handler, whose traceback keeps the tensors of the failed work alive.
    _say_once_more(device, reason)
    release_memory(device)
    return work()


def _say_once_more(device: torch.device, reason: str) -> None:
    log.warning("no memory on %s, once more after giving back what nobody needs (%s)", device, reason)


def forget_parts() -> None:
    """Begin with whole blocks again."""
    _n_parts.clear()


def _width(block: slice, device: torch.device) -> int:
    n_items: int = block.stop - block.start
    return max(1, -(-n_items // _n_parts.get(device, 1)))
