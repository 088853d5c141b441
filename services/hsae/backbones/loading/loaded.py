"""A model that is ready to run, whichever library it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hsae.backbones.hooks.family import Family
from hsae.backbones.hooks.places import block_paths


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model with its weights.

    Attributes:
        model: the model.
        family: where its blocks lie.
        arguments: makes the arguments of its forward of pixel values float[batch, 3, height, width].
        is_cut: whether the model ends after the deepest block that is needed. If not, later blocks are in it but may
            not be run.
        is_traceable: whether its blocks take and give the residual stream as tokens, as explanations need it.
    """

    model: nn.Module
    family: Family
    arguments: Callable[[Tensor], Mapping[str, Any]]
    is_cut: bool
    is_traceable: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a model.

    Attributes:
        hook: the hook point that is to be read.
        n_blocks: how many blocks are needed.
        dtype: weights are cast to this dtype.
        seed: of drawn weights; None: the model's own.
    """

    hook: str
    n_blocks: int
    dtype: torch.dtype
    seed: int | None


def drop_blocks(model: nn.Module, family: Family, n_blocks: int) -> None:
    """Free the weights of all blocks but the first ones; a pass must end before it reaches the others."""
    for path in block_paths(model, family)[n_blocks:]:
        parent, _, number = path.rpartition(".")
        setattr(model.get_submodule(parent), number, nn.Identity())
