"""The names that packages give to places in a transformer, as our layers.

Our activations of layer l are the residual stream after block l (counted from 0): `blocks.<l>.hook_resid_post`. What
enters block l + 1 (`blocks.<l + 1>.hook_resid_pre`) is the same stream.
"""

import re
from typing import NamedTuple

from hsae.backbones.hooks.names import RESIDUAL, prisma_name
from hsae.errors import UserError

_POST = re.compile(r"blocks\.(\d+)\.hook_resid_post|resid_post_layer_(\d+)")
_PRE = re.compile(r"blocks\.(\d+)\.hook_resid_pre")
_MODULE = re.compile(r"(?:[A-Za-z_]+\.)*(?:layers|layer|h|blocks|block)\.(\d+)")
_INSIDE = re.compile(
    r"blocks\.\d+\.(?!hook_resid_(?:pre|post)$).+"
    r"|(?:attention_out|mlp_out|attn_out)_layer_\d+"
    r"|(?:[A-Za-z_]+\.)*(?:layers|layer|h|block)\.\d+\..+"
)


class TrainedAt(NamedTuple):
    """Where an SAE was trained, as far as its files say.

    Attributes:
        hook_point: the package's name of the place.
        layer: 0-based number of a block whose output it is; used where the hook point says none.
        model: the model, as the package names it.
        tokens: cls or patches.
    """

    hook_point: str | None = None
    layer: int | None = None
    model: str | None = None
    tokens: str | None = None


def layer_of(trained_at: TrainedAt, given: int | None) -> int | None:
    """The layer of an SAE: that of its hook point, or what its files or the user say.

    Args:
        trained_at: what the files say.
        given: what the user says; None: nothing.

    Raises:
        UserError: the place is no residual stream after a block, or the user says another layer than the files.
    """
    found = _layer_of_hook_point(trained_at.hook_point) if trained_at.hook_point else None
    if found is None:
        found = trained_at.layer
    if found is not None and given is not None and found != given:
        named = trained_at.hook_point or f"layer {found}"
        raise UserError(f"this SAE was trained on {named}, which is layer {found} here, not {given}: correct --layer")
    return given if found is None else found


def _layer_of_hook_point(hook_point: str) -> int | None:
    post = _POST.fullmatch(hook_point) or _MODULE.fullmatch(hook_point)
    if post is not None:
        return int(next(number for number in post.groups() if number is not None))
    pre = _PRE.fullmatch(hook_point)
    if pre is not None:
        if int(pre[1]) == 0:
            raise UserError(
                f"this SAE was trained on {hook_point}, what enters the first block: layers are its outputs"
            )
        return int(pre[1]) - 1
    if _INSIDE.fullmatch(hook_point):
        raise UserError(
            f"this SAE was trained on {hook_point}, which is inside a block: only the residual stream after a block"
            " (blocks.N.hook_resid_post) is extracted"
        )
    return None


def hook_point_of(layer: int, hook: str = RESIDUAL) -> str:
    """What TransformerLens, SAELens and Prisma call a hook point of a block; its own name where they have none."""
    return prisma_name(hook, layer) or hook
