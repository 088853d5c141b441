"""What the kernels do on which type of device: the one place that knows."""

import importlib.util
from functools import cache
from typing import Literal, NamedTuple

import torch


class Ways(NamedTuple):
    """How a type of device computes.

    Attributes:
        sparse_product: "embedding_bag", "triton", or "none" where products must be dense.
        selects_by_blocks: whether the largest of a row are looked for among the maxima of blocks first.
        keeps_memory: whether freed memory is expensive to get again. CUDA's allocator keeps what was freed.
        counts_are_cheap: whether the host knows at once how many entries of a mask are true. On a GPU it waits until
            the device has done all that it was asked for, and then the device waits for the host.
    """

    sparse_product: Literal["embedding_bag", "triton", "none"]
    selects_by_blocks: bool
    keeps_memory: bool
    counts_are_cheap: bool


_ON_THE_CPU = Ways("embedding_bag", selects_by_blocks=True, keeps_memory=True, counts_are_cheap=True)


def ways(device: torch.device) -> Ways:
    """How a device computes."""
    if device.type == "cpu":
        return _ON_THE_CPU
    has_triton = device.type == "cuda" and _triton_is_installed()
    return Ways("triton" if has_triton else "none", selects_by_blocks=False, keeps_memory=False, counts_are_cheap=False)


@cache
def _triton_is_installed() -> bool:
    return importlib.util.find_spec("triton") is not None
