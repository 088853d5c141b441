"""Memory of a device: what may still be taken, and giving back what nobody needs any more."""

import gc

import torch


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that this process may still take: what nobody uses, within its share (HSAE_GPU_MEMORY_SHARE)."""
    free, total = torch.cuda.mem_get_info(device)
    share = torch.cuda.get_per_process_memory_fraction(device)
    return max(0, min(free, int(share * total) - torch.cuda.memory_reserved(device)))


def release_memory(device: torch.device) -> None:
    """Give back all memory of a device that no tensor holds.

    Tensors in reference cycles (an error and its traceback are one) hold memory until they are collected, so that comes
    first. Call it outside the `except` block of an error whose traceback holds tensors.
    """
    gc.collect()
    if device.type == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
