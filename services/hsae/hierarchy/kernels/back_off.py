"""Work on blocks that goes on in smaller ones after the device ran out of memory."""

import logging
from collections.abc import Callable, Iterable, Iterator
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

    A part for which the device has no memory is halved, and so are all that follow. No result may depend on where a
    block is cut.

    Args:
        work: called with a block or a part of one.
        blocks: ranges with a start, a stop and no step.
        device: where it works.

    Raises:
        torch.OutOfMemoryError: or another error that `is_out_of_memory` knows: a part of one item does not fit.
    """
    device = torch.device(device)
    for block in blocks:
        first = block.start
        while True:
            width = _width(block, device)
            part = slice(first, min(first + width, block.stop))
            try:
                result = work(part)
            except Exception as error:
                if width <= 1 or not is_out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())
            else:
                yield result
                del result  # or it would lie beside the next one
                first = part.stop
                if first >= block.stop:
                    break
                continue
            # Outside the handler, whose traceback keeps the tensors of the failed part alive.
            while _width(block, device) == width:
                _n_parts[device] = 2 * _n_parts.get(device, 1)
            log.warning(
                "no memory on %s for %d at a time, going on with %d (%s)", device, width, _width(block, device), reason
            )
            release_memory(device)


def uncut(work: Callable[[slice], _Result], blocks: Iterable[slice], device: Device) -> Iterator[_Result]:
    """Yield the result of `work` for every block in order; no block is cut.

    For work with products of matrices of floats, whose size decides their last digits. A block for which the device has
    no memory is tried once more, after what nobody needs was given back.

    Raises:
        torch.OutOfMemoryError: or another error that `is_out_of_memory` knows: a block does not fit.
    """
    device = torch.device(device)
    for block in blocks:
        try:
            result = work(block)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())
        else:
            yield result
            del result  # or it would lie beside the next one
            continue
        # Outside the handler, whose traceback keeps the tensors of the failed block alive.
        log.warning("no memory on %s, once more after giving back what nobody needs (%s)", device, reason)
        release_memory(device)
        yield work(block)


def forget_parts() -> None:
    """Begin with whole blocks again."""
    _n_parts.clear()


def _width(block: slice, device: torch.device) -> int:
    n_items: int = block.stop - block.start
    return max(1, -(-n_items // _n_parts.get(device, 1)))
