"""Lets torch name a CUDA device where it was built without CUDA, so that tensors can say that they are on one."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"  # c10::impl::device_guard_impl_registry
_CUDA, _META = 1, 14  # c10::DeviceType
_N_TYPES = 21


@contextmanager
def cuda_may_be_named() -> Iterator[None]:
    """Inside, `cuda:0` is a device that operations may switch to, which does nothing.

    Whenever torch indexes a tensor it switches to the tensor's device and back, by an object that each kind of device
    registers. A build for the CPU has none for CUDA. It gets that of `meta`, which does nothing, and loses it again.
    A build for CUDA has its own, with or without a GPU, and nothing changes. A bare `cuda` would be asked for its
    number, which `meta` cannot say: name the first device.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    registry = (ctypes.c_void_p * _N_TYPES).in_dll(library, _REGISTRY)
    if registry[_CUDA] is not None:
        yield
        return
    registry[_CUDA] = registry[_META]
    try:
        yield
    finally:
        registry[_CUDA] = None
