"""What the errors of a device mean: out of memory, or a device that no longer works."""

import torch

from hsae.errors import HsaeError

# Libraries beside torch's own allocator say in words that their memory could not be allocated, as a RuntimeError.
_NO_MEMORY = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_INSUFFICIENT_RESOURCES",
    "CUFFT_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)
# cuBLAS says so, and no more, when a handle finds no memory for its workspace.
_NO_MEMORY_FOR_HANDLE = ("CUBLAS_STATUS_NOT_INITIALIZED", "cublasCreate")
_NOT_OF_THE_DEVICE = ("out of memory", "no kernel image is available", "invalid configuration argument")
_DEVICE_GONE = (
    "CUDA error:",
    "CUDA driver error:",
    "CUDA unknown error",
    "No CUDA GPUs are available",
    "Found no NVIDIA driver",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "NCCL error:",
)


class OutOfDeviceMemoryError(HsaeError):
    """There is not enough memory also with as little as possible on the device; one line that says what to change."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an operation found no memory on its device, and may find some once others have given theirs back.

    torch raises `OutOfMemoryError` from its own allocator, `AcceleratorError` from the driver, and a plain
    `RuntimeError` where cuBLAS, cuDNN or a relative allocates by itself.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    message = str(error)
    return any(words in message for words in _NO_MEMORY) or all(words in message for words in _NO_MEMORY_FOR_HANDLE)


def is_broken_device(error: BaseException) -> bool:
    """Whether the device failed rather than the computation: after such an error no further call works in the process.

    Among them are memory errors that the driver found, a kernel that was lost, and a driver that is gone.
    """
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    message = str(error)
    if any(words in message for words in _NOT_OF_THE_DEVICE):
        return False
    return isinstance(error, torch.AcceleratorError) or any(words in message for words in _DEVICE_GONE)
