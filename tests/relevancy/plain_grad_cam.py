"""Grad-CAM by the gradients of a whole model, for one image at a time: what maps of any family are compared with."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder


def new_sae(d_model: int) -> SparseAutoencoder:
    """Random weights."""
    sae = SparseAutoencoder(SaeConfig(kind="relu", expansion=2), d_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return sae.requires_grad_(False)


def plain_grad_cam(
    run: Callable[[Tensor], Any],
    block: nn.Module,
    image: Tensor,
    sae: SparseAutoencoder,
    latent: int,
    tokens_of: Callable[[Tensor], Tensor],
    n_prefix: int,
) -> Tensor:
    """The map of the mean of the patches after a block, [n_patches].

    Args:
        run: the whole model.
        block: the block, whose input and output are read.
        image: one image.
        sae: the SAE.
        latent: its latent.
        tokens_of: makes tokens [1, n_all, d_model] of the block's tensors.
        n_prefix: tokens before the patches.
    """
    seen: dict[str, Tensor] = {}

    def enter(module: nn.Module, given: Any) -> None:
        given[0].retain_grad()
        seen["given"] = given[0]

    def leave(module: nn.Module, given: Any, output: Any) -> None:
        seen["got"] = output

    handles = [block.register_forward_pre_hook(enter), block.register_forward_hook(leave)]
    run(image[None].clone().requires_grad_())
    for handle in handles:
        handle.remove()
    x = tokens_of(seen["got"])[:, n_prefix:].mean(1)
    sae.pre_activations(sae.scale_inputs(x))[0, latent].backward()
    given = seen["given"]
    assert given.grad is not None
    values, gradients = tokens_of(given.detach())[0, n_prefix:], tokens_of(given.grad)[0, n_prefix:]
    weights = gradients.mean(0)
    return torch.stack([(weights * value).sum().clamp(min=0) for value in values])
