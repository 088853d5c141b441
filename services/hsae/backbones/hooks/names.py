"""The names of hook points, as `submit --hook` and an extraction's key have them."""

from collections.abc import Mapping
from types import MappingProxyType

RESIDUAL, ATTENTION, MLP, EMBEDDING = "residual", "attention", "mlp", "embedding"
HOOKS: Mapping[str, str] = MappingProxyType(
    {
        RESIDUAL: "the residual stream after the block, before the final norm",
        ATTENTION: "what the block's attention adds to the residual stream",
        MLP: "what the block's MLP adds to the residual stream",
        EMBEDDING: "the image's embedding: the last layer's summary after the final norm and projection",
    }
)
"""Hook points that mean the same in every model; anything else is the path of a module, such as encoder.layer.8.mlp."""
# What Prisma and TransformerLens call them in block l; SAELens uses the same names.
_PRISMA: Mapping[str, str] = MappingProxyType(
    {RESIDUAL: "blocks.{}.hook_resid_post", ATTENTION: "blocks.{}.hook_attn_out", MLP: "blocks.{}.hook_mlp_out"}
)


def is_path(hook: str) -> bool:
    """Whether a hook point is given by the path of a module."""
    return hook not in HOOKS


def same_hook(one: str, other: str) -> bool:
    """Whether two names mean the same hook point; paths do where one leaves out modules around the blocks."""
    if one == other:
        return True
    return is_path(one) and is_path(other) and (one.endswith(f".{other}") or other.endswith(f".{one}"))


def prisma_name(hook: str, layer: int) -> str | None:
    """What Prisma, TransformerLens and SAELens call a hook point of a block; None where they have no name for it."""
    pattern = _PRISMA.get(hook)
    return None if pattern is None else pattern.format(layer)
