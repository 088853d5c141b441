"""How fast a device multiplies matrices, in each precision: what the speed of passes and steps is compared with."""

import statistics
import time

import torch
from torch import Tensor

from hsae.devices.numerics import products
from hsae.devices.precision import Precision

_N_WARM_UP, _N_MEASURED = 3, 10


def seconds_of_product(left: Tensor, right: Tensor, precision: Precision) -> float:
    """The median time of `left @ right` once it is done, with the precision's rounding of its factors.

    Args:
        left: float32[n, k].
        right: float32[k, m], on the same device.
        precision: bfloat16 multiplies copies in bfloat16; tf32 and float32 are settings of the process.
    """
    if precision == "bfloat16":
        left, right = left.bfloat16(), right.bfloat16()
    on_cuda = left.device.type == "cuda"
    seconds = []
    with products(precision):
        for _ in range(_N_WARM_UP + _N_MEASURED):
            start = time.perf_counter()
            _product = left @ right
            if on_cuda:
                torch.cuda.synchronize(left.device)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[_N_WARM_UP:])


def product_teraflop(device: torch.device, precision: Precision, size: int) -> float:
    """10^12 operations a second of a product of two square matrices of this size."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=generator).to(device) for _ in range(2))
    return 2 * size**3 / seconds_of_product(left, right, precision) / 1e12
