"""The JumpReLU and its pseudo-derivatives (Rajamanoharan et al. 2024, arXiv 2407.14435, equations 11 and 12).

With the rectangle `K(u) = 1 if |u| < 1/2 else 0` and a bandwidth `epsilon`

    d/d threshold  pre * H(pre - threshold)  :=  -(threshold / epsilon) * K((pre - threshold) / epsilon)
    d/d threshold        H(pre - threshold)  :=            -(1 / epsilon) * K((pre - threshold) / epsilon)

Towards `pre` both have their ordinary derivative: H for the first one, 0 for the second one.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def jump_relu(pre: Float[Tensor, "n"], threshold: Float[Tensor, "n"], bandwidth: float) -> Float[Tensor, "n"]:
    """`pre` where it is above the threshold, 0 elsewhere, entry by entry."""
    values: Tensor = _JumpRelu.apply(pre, threshold, bandwidth)  # type: ignore[no-untyped-call]
    return values


def step(pre: Float[Tensor, "n"], threshold: Float[Tensor, "n"], bandwidth: float) -> Float[Tensor, "n"]:
    """1 where `pre` is above the threshold, 0 elsewhere, entry by entry; no gradient reaches `pre`."""
    values: Tensor = _Step.apply(pre, threshold, bandwidth)  # type: ignore[no-untyped-call]
    return values


def _near(pre: Tensor, threshold: Tensor, bandwidth: float) -> Bool[Tensor, "n"]:
    """Where the rectangle is 1."""
    return (pre - threshold).abs() < bandwidth / 2


class _JumpRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        pre, threshold = ctx.saved_tensors
        near = _near(pre, threshold, ctx.bandwidth)
        return gradient * (pre > threshold), gradient * near * (-threshold / ctx.bandwidth), None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        pre, threshold = ctx.saved_tensors
        return None, gradient * _near(pre, threshold, ctx.bandwidth) * (-1 / ctx.bandwidth), None
