"""Freed memory in the C library: a job keeps it for its next arrays, and returns it when it ends."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Names and numbers of glibc's malloc.h; another C library has other defaults, and lacks the functions.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT = 256 << 20
_LARGEST_KEPT = 32 << 20  # the most that glibc allows
_STEP = 16 << 20


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in this process during the block, and return it to the kernel at the end.

    By default glibc returns the memory of large arrays as soon as they are freed, and the kernel must fill the same
    pages with zeros for the next arrays.
    """
    keep_freed_memory()
    try:
        yield
    finally:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def keep_freed_memory() -> None:
    """Keep freed memory, up to 256 MiB at the end of every heap, until the process ends."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for option, value in ((_M_MMAP_THRESHOLD, _LARGEST_KEPT), (_M_TRIM_THRESHOLD, _KEPT), (_M_TOP_PAD, _STEP)):
            set_option(option, value)
