"""Memory of a device that nobody needs any more."""

import gc

import torch


def release_memory(device: torch.device) -> None:
    """Give back all memory of a device that no tensor holds.

    Tensors in reference cycles (an error and its traceback are one) hold memory until they are collected, so that comes
    first. Call it outside the `except` block of an error whose traceback holds tensors.
    """
    gc.collect()
    if device.type == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
