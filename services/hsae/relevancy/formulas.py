"""The formulas of the maps, over tensors of a batch; rows of a batch are independent of each other."""

import torch
from jaxtyping import Float
from torch import Tensor


class Propagation:
    """Gradient-weighted attention propagated through the blocks (Chefer, Gur and Wolf 2021, arXiv 2103.15679).

    A_l is the head mean of the positive part of gradient x attention of block l. The paper's relevancy R starts as the
    identity and becomes `R <- R + A_l R` from the first block up. Only a combination r of its rows is wanted, and
    `r (I + A_L) ... (I + A_1)` gives it without the matrix: r becomes `r + r A_l` from the last block down. That is the
    order in which a backward pass reaches the blocks.
    """

    def __init__(self, rows: Float[Tensor, "batch n_all"]) -> None:
        """`rows`: the weights with which rows of R are added up, such as 1 at the class token."""
        self.row = rows

    def through(self, attention: Float[Tensor, "batch n_heads n_all n_all"]) -> None:
        """Take this block in when the backward pass reaches its attention weights."""
        weights = attention.detach()

        def reached(gradient: Tensor) -> None:
            self.row = self.row + torch.einsum("bn,bnm->bm", self.row, positive_part(weights, gradient))

        attention.register_hook(reached)  # type: ignore[no-untyped-call]


def positive_part(
    attention: Float[Tensor, "batch n_heads n_all n_all"], gradient: Float[Tensor, "batch n_heads n_all n_all"]
) -> Float[Tensor, "batch n_all n_all"]:
    """The mean over the heads of the positive part of gradient x attention."""
    return (gradient * attention).clamp(min=0).float().mean(1)


def last_attention(
    rows: Float[Tensor, "batch n_all"], attention: Float[Tensor, "batch n_heads n_all n_all"]
) -> Float[Tensor, "batch n_all"]:
    """The same combination of rows of one block's attention, its heads averaged; no gradient, no earlier block."""
    return torch.einsum("bn,bnm->bm", rows, attention.detach().float().mean(1))


def grad_cam(
    values: Float[Tensor, "batch n_patches d_model"], gradients: Float[Tensor, "batch n_patches d_model"]
) -> Float[Tensor, "batch n_patches"]:
    """Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391).

    Channels are weighted by their mean gradient over the patches and added up; of the sum the positive part.
    """
    weights = gradients.float().mean(1, keepdim=True)
    return (values.detach().float() * weights).sum(2).clamp(min=0)


def gradient_norm(
    values: Float[Tensor, "batch n d_model"], gradients: Float[Tensor, "batch n d_model"]
) -> Float[Tensor, "batch n"]:
    """The norm of gradient x input of every token."""
    norms: Tensor = torch.linalg.vector_norm(gradients.float() * values.detach().float(), dim=2)
    return norms
