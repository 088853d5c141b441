"""How a GPU multiplies float32, and whether it gives the same bits every time: the one place that sets either.

PyTorch lets cuDNN round the inputs of convolutions to TF32 (10 bits of the mantissa) unless it is told otherwise, and
matrix products are float32. Here both are float32 unless a config asks for TF32. The settings are those of the process,
so what a config asks for holds while anybody in the process needs it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock

import torch

from hsae.devices.precision import Precision

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_FIXED_WORKSPACE = ":4096:8"


def prepare_device(device: torch.device) -> None:
    """Set what every computation of this process relies on; every process that computes calls it before it does.

    On CUDA it also gives cuBLAS a fixed workspace, without which its sums may change from run to run. cuBLAS reads that
    when it is first used.
    """
    _tf32.apply()
    if device.type == "cuda":
        os.environ.setdefault(_WORKSPACE, _FIXED_WORKSPACE)


def products(precision: Precision) -> AbstractContextManager[None]:
    """Inside, a GPU multiplies float32 numbers as `precision` has it; bfloat16 is autocast's, and changes nothing here.

    Two computations at the same time in one process must have the same precision.
    """
    return _tf32.on() if precision == "tf32" else nullcontext()


def narrow_products(device: torch.device, precision: Precision) -> torch.autocast:
    """Inside, matrix products and convolutions are made in bfloat16 where `precision` says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def same_bits(device: torch.device) -> AbstractContextManager[None]:
    """Inside, an operation on CUDA that has no deterministic form raises; on the CPU all that we use have one."""
    return _deterministic.on() if device.type == "cuda" else nullcontext()


class _Switch:
    """A setting of the process that is on while at least one block needs it."""

    def __init__(self, turn: Callable[[bool], None]) -> None:
        self._turn = turn
        self._n_users = 0
        self._lock = Lock()

    def apply(self) -> None:
        """Set what is needed now, whatever others have set."""
        with self._lock:
            self._turn(self._n_users > 0)

    @contextmanager
    def on(self) -> Iterator[None]:
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._n_users += change
            self._turn(self._n_users > 0)


def _turn_tf32(on: bool) -> None:
    precision = "tf32" if on else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = precision  # type: ignore[attr-defined]


def _turn_deterministic(on: bool) -> None:
    torch.use_deterministic_algorithms(on)
    # Nothing here reads memory before it is written, and filling it with NaN would cost a pass over every result.
    torch.utils.deterministic.fill_uninitialized_memory = not on  # type: ignore[attr-defined]


_tf32 = _Switch(_turn_tf32)
_deterministic = _Switch(_turn_deterministic)
