"""Whether this machine shows an NVIDIA GPU, now or when this process began. Nothing here loads torch."""

import os
from pathlib import Path

_DRIVER = Path("/dev/nvidiactl")
_seen: list[bool] = []


def remember_gpu() -> None:
    """Note whether there is one, for this process and those that it forks: a driver may be gone later, with its files.

    A worker does so before its first child begins.
    """
    _seen[:] = [_DRIVER.exists()]


def shows_gpu() -> bool:
    """Whether the machine shows a GPU to this process, or did when it was noted, that nobody has hidden from it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    return not hidden and (any(_seen) or _DRIVER.exists())
