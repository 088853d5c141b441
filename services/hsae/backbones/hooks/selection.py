"""From a module's output to the tokens that are kept."""

from jaxtyping import Float
from torch import Tensor

from hsae.backbones.spec import Axes, HookShape, Tokens
from hsae.errors import UserError


def as_tokens(output: Tensor, axes: Axes) -> Float[Tensor, "batch n_all width"]:
    """A module's output as tokens: a map row by row, a vector as one token, and tokens as they are."""
    if axes == "vector":
        return output[:, None] if output.ndim == 2 else output
    if output.ndim != 4:
        return output
    return output.flatten(2).transpose(1, 2) if axes == "channels_first" else output.flatten(1, 2)


def all_tokens(output: Tensor, shape: HookShape, name: str) -> Float[Tensor, "batch n_all width"]:
    """A module's output as tokens; see `as_tokens`.

    Raises:
        UserError: it has another shape than the one expected.
    """
    tokens = as_tokens(output, shape.axes)
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
