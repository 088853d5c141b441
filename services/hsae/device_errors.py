"""What the errors of a device mean, in one place for everything that computes on one."""

import gc

import torch

_WORDS = (
    "out of memory",  # the driver's, which comes as `torch.AcceleratorError`
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_INSUFFICIENT_RESOURCES",
)
"""Libraries beside torch's allocator say so in the text of a `RuntimeError`."""

_NO_HANDLE = ("CUBLAS_STATUS_NOT_INITIALIZED", "cublasCreate")
"""All that cuBLAS says if a handle finds no memory for its workspace."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device had no memory left, so that the same work may pass in smaller parts."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error)
    return any(words in text for words in _WORDS) or all(words in text for words in _NO_HANDLE)


def release_memory(device: torch.device | str) -> None:
    """Give memory that no tensor holds back to the device.

    Call it outside the `except` block: an error's traceback holds the tensors of the failed work. Reference cycles hold
    tensors, too, so they are collected first.
    """
    gc.collect()
    if torch.device(device).type == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
