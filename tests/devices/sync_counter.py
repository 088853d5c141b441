"""Counts what would make the host wait for a GPU, on any device."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Each has a result whose shape, or whose value, the host must know before it goes on.
_WAITING = {
    "aten::nonzero",
    "aten::_local_scalar_dense",
    "aten::masked_select",
    "aten::_unique",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::equal",
}
_WITH_MASKS = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


def wait_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The name of the operation where a GPU's host waits for its result; None: it goes on at once."""
    name = func._schema.name
    if name in _WAITING:
        return str(name)
    if name == "aten::repeat_interleave" and kwargs.get("output_size") is None:
        return str(name)
    if name in _WITH_MASKS and any(index is not None and index.dtype == torch.bool for index in args[1]):
        return f"{name} by a mask"
    return None


class SyncCounter(TorchDispatchMode):
    """Inside, `counts` gathers the operations that wait, by name.

    On the CPU a copy to another device is none, and `tolist` is no operation: `EmulatedCuda` counts these, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        waits = wait_of(func, args, kwargs or {})
        if waits is not None:
            self.counts[waits] += 1
        return func(*args, **(kwargs or {}))
