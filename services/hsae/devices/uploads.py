"""Numbers on their way to a GPU while it works: from pinned memory, and one batch ahead.

From ordinary memory CUDA first waits until the GPU has done all that it was asked for, whatever the caller said of
waiting. So the numbers are first copied into pinned memory. torch's allocator gives that memory to nobody else before
the GPU has read it, so several copies may be under way at once, each with a buffer of its own.
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor

_Item = TypeVar("_Item")


def uploaded(values: Shaped[Tensor, "*shape"], device: torch.device) -> Shaped[Tensor, "*shape"]:
    """The same numbers on the device; nobody waits for it. Where they are there already, the same tensor."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


class OneAhead(Generic[_Item]):
    """Items one after the other; the next one may be taken early, while the device is at work on this one."""

    def __init__(self, items: Iterator[_Item], prepare: Callable[[_Item], _Item]) -> None:
        """Take nothing yet.

        Args:
            items: what comes.
            prepare: what is done with an item as soon as it is taken.
        """
        self._items = items
        self._prepare = prepare
        self._taken: list[_Item] = []

    def __iter__(self) -> Iterator[_Item]:
        """Every item once, in order."""
        while self._taken or self.look_ahead():
            yield self._taken.pop()

    def look_ahead(self) -> bool:
        """Take the next item, unless it is taken; False: there is none."""
        if not self._taken:
            self._taken += [self._prepare(item) for item in _next(self._items)]
        return bool(self._taken)


def _next(items: Iterator[_Item]) -> list[_Item]:
    for item in items:
        return [item]
    return []
