"""The sparse product of an SAE.

It goes over entries. Each has a value, belongs to one output, and names a row of a table:

    out[i] = sum of value_e * table[source_e] over the entries e of output i

It decodes (outputs are rows, the table has the decoder's directions), and it makes the gradients of encoder and decoder
(outputs are latents, the table has rows of inputs or of gradients). On the CPU it is `embedding_bag`. On CUDA it is a
Triton kernel, where Triton can be imported. Elsewhere there is none, and callers use dense products. Sums are taken in
a fixed order and without atomic additions, so the same entries give the same bits.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from hsae.sae.kernels.devices import ways


@dataclass(frozen=True, slots=True)
class Bags:
    """Entries in the order of their outputs.

    Attributes:
        outputs: int64[n_entries], ascending.
        offsets: int64[n], where the entries of each output begin.
        sources: int64[n_entries], the table's row of each entry.
        uneven: whether some outputs may have far more entries than others.
    """

    outputs: Int[Tensor, "n_entries"]
    offsets: Int[Tensor, "n"]
    sources: Int[Tensor, "n_entries"]
    uneven: bool


def weighted_sums(
    bags: Bags, values: Float[Tensor, "n_entries"], table: Float[Tensor, "n_table d_model"]
) -> Float[Tensor, "n d_model"]:
    """The product of the module's docstring, differentiable in `values` and not in `table`."""
    table = table.detach()
    if ways(table.device).sparse_product == "embedding_bag":
        return F.embedding_bag(bags.sources, table, bags.offsets, per_sample_weights=values, mode="sum")
    sums: Tensor = _TritonSums.apply(bags, values, table)  # type: ignore[no-untyped-call]
    return sums


def plain_sums(
    outputs: Int[Tensor, "n_entries"], values: Float[Tensor, "n_entries"], order: Int[Tensor, "n_entries"], bags: Bags
) -> Float[Tensor, "n"]:
    """For every output the sum of its values.

    Args:
        outputs: the output of each entry.
        values: its value.
        order: what sorts the entries by output.
        bags: the sorted entries.
    """
    if ways(values.device).sparse_product == "embedding_bag":
        return values.new_zeros(bags.offsets.shape[0]).index_add_(0, outputs, values)
    of_one_row = Bags(bags.outputs, bags.offsets, torch.zeros_like(bags.sources), bags.uneven)
    return weighted_sums(of_one_row, values[order], values.new_ones(1, 1))[:, 0]


class _TritonSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bags: Bags, values: Tensor, table: Tensor) -> Tensor:
        # Triton comes with it, which only CUDA needs.
        from hsae.sae.kernels.triton_products import gather_sums

        ctx.bags = bags
        ctx.save_for_backward(table)
        return gather_sums(bags.sources, bags.offsets, values, table, uneven=bags.uneven)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # As above.
        from hsae.sae.kernels.triton_products import row_dots

        (gradient,) = gradients
        (table,) = ctx.saved_tensors
        return None, row_dots(gradient, table, ctx.bags.outputs, ctx.bags.sources), None
