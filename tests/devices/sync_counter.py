"""Counts where a host waits for its GPU, without one: the operations that do are known by name.

with SyncCounter() as syncs:
    step()
assert syncs.total <= 2, syncs
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_WAIT = frozenset(
    {
        "_local_scalar_dense",  # item, int, float, bool, a tensor in an if
        "_unique",
        "_unique2",
        "bincount",  # asks for the greatest value
        "equal",
        "is_nonzero",
        "item",
        "masked_select",
        "nonzero",
        "unique_consecutive",
        "unique_dim",
        "unique_dim_consecutive",
    }
)
"""Operations whose result, or the size of it, the host must know."""

_INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"})


class SyncCounter(TorchDispatchMode):
    """Counts every operation for which the host waits until a GPU has done all its work.

    - results or sizes that the host must know: `nonzero`, `masked_select`, `unique`, `item` and a tensor in an `if`
    - an index that is a mask (it is a `nonzero`)
    - `repeat_interleave` without `output_size`
    - copies between devices without `non_blocking=True`, in both directions: torch waits for the stream
    - copies with it between the device and memory that is not pinned: CUDA makes them through a buffer of its own
    - indices of the CPU into a tensor of the device: torch sends each of them there, and waits

    Copies can be seen only where there are two devices: with a GPU, or an `NumericCuda`, which must be entered first.
    Operations inside a kernel that torch compiled or that Triton runs are not seen.

    Attributes:
        counts: how often each was done.
    """

    def __init__(self, device_type: str | None = None) -> None:
        """Count the operations on tensors of one type of device ("cuda"); None: on all tensors, also on the CPU.

        On the CPU nobody waits. There, count all of them to know what a GPU would do with the same code.
        """
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._device_type = device_type

    @property
    def total(self) -> int:
        """How often the host would have waited."""
        return self.counts.total()

    def __str__(self) -> str:
        """What was counted, for an assertion's message."""
        return f"{self.total} waits: {dict(self.counts)}"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and run it."""
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # there, operations made of others come as a whole: `to` has copies in it
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        if self._is_counted(args, kwargs):
            waits = wait_of(func, args, kwargs) or _unpinned(func, args, kwargs)
            if waits is not None:
                self.counts[waits] += 1
            self.counts += Counter(_host_indices(func, args))
        return func(*args, **kwargs)

    def _is_counted(self, args: Any, kwargs: Any) -> bool:
        if self._device_type is None:
            return True
        devices = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        devices |= {leaf.type for leaf in tree_leaves(kwargs) if isinstance(leaf, torch.device)}
        return self._device_type in devices


def wait_of(func: Any, args: Any, kwargs: Any) -> str | None:
    """The name of the operation where a GPU's host waits for it; None: it goes on at once."""
    name = func.overloadpacket.__name__
    if name in _WAIT or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        return str(name)
    if name in _INDEXING and any(_is_mask(index) for index in args[1]):
        return f"{name} with a mask"
    if name == "_to_copy":
        device = kwargs.get("device")
        target = args[0].device.type if device is None else torch.device(device).type
        return None if kwargs.get("non_blocking", False) else _copy(args[0].device.type, target)
    if name == "copy_":
        is_async = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        return None if is_async else _copy(args[1].device.type, args[0].device.type)
    return None


def _unpinned(func: Any, args: Any, kwargs: Any) -> str | None:
    """The name of a copy that should not block, and does: its side on the CPU is not pinned."""
    name = func.overloadpacket.__name__
    if name == "_to_copy":
        device = kwargs.get("device")
        target = args[0].device.type if device is None else torch.device(device).type
        # To the CPU torch gets pinned memory by itself.
        blocks = target != "cpu" and args[0].device.type == "cpu" and not args[0].is_pinned()
    elif name == "copy_":
        on_cpu = [part for part in args[:2] if part.device.type == "cpu"]
        blocks = len(on_cpu) == 1 and not on_cpu[0].is_pinned()
    else:
        return None
    return "copy from or to memory that is not pinned" if blocks else None


def _host_indices(func: Any, args: Any) -> list[str]:
    """An entry for every index on the CPU of a tensor that is elsewhere."""
    name = func.overloadpacket.__name__
    if name not in _INDEXING or args[0].device.type == "cpu":
        return []
    return [f"{name} on the cpu" for index in args[1] if isinstance(index, Tensor) and index.device.type == "cpu"]


def _copy(source: str, target: str) -> str | None:
    return None if source == target else f"copy from {source} to {target}"


def _is_mask(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
