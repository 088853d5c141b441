"""Which errors mean that memory was lacking, and which that the device is broken."""

import gc
import weakref

import pytest
import torch

from hsae.devices.errors import is_broken_device, is_out_of_memory
from hsae.devices.memory import release_memory

NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to"),
]
BROKEN = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
    RuntimeError("No CUDA GPUs are available"),
    RuntimeError("Found no NVIDIA driver on your system."),
]
NEITHER = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    RuntimeError("CUDA error: no kernel image is available for execution on the device"),
    MemoryError("out of memory"),
    ValueError("CUDA error: in somebody's text"),
]


@pytest.mark.parametrize("error", [*NO_MEMORY, *BROKEN, *NEITHER], ids=lambda error: str(error)[:40])
def test_what_an_error_means(error):
    assert is_out_of_memory(error) == (error in NO_MEMORY)
    assert is_broken_device(error) == (error in BROKEN)


def test_memory_in_cycles_is_released():
    """The traceback of an error refers to the frame that refers to the error."""

    class Holder:
        tensor: torch.Tensor
        itself: "Holder"

    holder = Holder()
    holder.itself, holder.tensor = holder, torch.zeros(3)
    gone = weakref.ref(holder.tensor)
    gc.disable()
    try:
        del holder
        assert gone() is not None
        release_memory(torch.device("cpu"))
        assert gone() is None
    finally:
        gc.enable()


def test_cycles_are_collected_before_the_cache_is_emptied(monkeypatch):
    done = []
    monkeypatch.setattr(gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("empty"))
    release_memory(torch.device("cuda:0"))
    assert done == ["collect", "empty"]
    release_memory(torch.device("cpu"))
    assert done == ["collect", "empty", "collect"]
