"""From a module's output to the tokens that are kept."""

from jaxtyping import Float
from torch import Tensor

from hsae.backbones.spec import HookShape, Tokens
from hsae.errors import UserError


def all_tokens(output: Tensor, shape: HookShape, name: str) -> Float[Tensor, "batch n_all width"]:
    """A module's output as tokens: a map row by row, a vector as one token.

    Raises:
        UserError: it has another shape than the one expected.
    """
    if shape.axes == "vector":
        tokens = output[:, None] if output.ndim == 2 else output
    elif shape.axes == "channels_first" and output.ndim == 4:
        tokens = output.flatten(2).transpose(1, 2)
    elif shape.axes == "channels_last" and output.ndim == 4:
        tokens = output.flatten(1, 2)
    else:
        tokens = output
    expected = (shape.n_prefix_tokens + shape.n_patches, shape.width)
    if tuple(tokens.shape[1:]) != expected:
        raise UserError(
            f"{name} gives {tuple(tokens.shape[1:])} (tokens, d_model) instead of {expected}: "
            "its configuration contradicts its preprocessor"
        )
    return tokens


def selected(
    tokens: Float[Tensor, "batch n_all width"], shape: HookShape, kind: Tokens
) -> Float[Tensor, "batch n_tokens width"]:
    """Those of the tokens that are asked for, float32."""
    n_prefix = shape.n_prefix_tokens
    if kind == "cls":
        return tokens[:, :1].clone().float()  # a copy, so that the other tokens can be freed
    if kind == "registers":
        return tokens[:, n_prefix - shape.n_registers : n_prefix].clone().float()
    patches = tokens[:, n_prefix:].float()
    return patches.mean(dim=1, keepdim=True) if kind == "mean" else patches
