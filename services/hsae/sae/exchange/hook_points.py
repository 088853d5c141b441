"""The names that packages give to places in a transformer, as our hook points and layers.

Our residual stream of layer l is what leaves block l (counted from 0): `blocks.<l>.hook_resid_post`. What enters block
l + 1 (`blocks.<l + 1>.hook_resid_pre`) is the same stream. What attention and MLP of block l add to it are
`blocks.<l>.hook_attn_out` and `blocks.<l>.hook_mlp_out`; other modules of a block are named by their path.
"""

import re
from typing import NamedTuple

from hsae.backbones.hooks.names import ATTENTION, HOOKS, MLP, RESIDUAL, prisma_name, same_hook
from hsae.errors import UserError

_BLOCKS = r"(?:layers|layer|h|resblocks|blocks|block)"
_NAMED = re.compile(r"blocks\.(?P<layer>\d+)\.hook_(?P<part>resid_post|resid_pre|attn_out|mlp_out)")
_OF_LAYER = re.compile(r"(?P<part>resid_post|attention_out|attn_out|mlp_out)_layer_(?P<layer>\d+)")
_PARTS = {"resid_post": RESIDUAL, "attn_out": ATTENTION, "attention_out": ATTENTION, "mlp_out": MLP}
_MODULE = re.compile(rf"(?P<blocks>(?:[A-Za-z_]\w*\.)*{_BLOCKS})\.(?P<layer>\d+)(?P<inside>(?:\.\w+)*)")
_OTHER_HOOK_OR_BLOCK = re.compile(rf"\.hook_|\.{_BLOCKS}\.\d+")
_STARRED = re.compile(r"(?:\w+|\*)(?:\.(?:\w+|\*))*")
_KNOWN = (
    "blocks.N.hook_resid_post, blocks.N.hook_resid_pre, blocks.N.hook_attn_out, blocks.N.hook_mlp_out,"
    " resid_post_layer_N, attn_out_layer_N, mlp_out_layer_N, the block N or a module in it by its path"
    " (encoder.layer.N, encoder.layer.N.mlp), and embedding"
)


class TrainedAt(NamedTuple):
    """Where an SAE was trained, as far as its files say.

    Attributes:
        hook_point: the package's name of the place.
        layer: 0-based number of the block; used where the hook point says none.
        model: the model, as the package names it.
        tokens: cls or patches.
        hook: our name of the hook point, as `submit --hook` takes it; None: `hook_point` tells, or nobody does.
    """

    hook_point: str | None = None
    layer: int | None = None
    model: str | None = None
    tokens: str | None = None
    hook: str | None = None


class HookPlace(NamedTuple):
    """A hook point by our name, and the layer that its package's name has; None: it has none."""

    hook: str
    layer: int | None


def settled_place(trained_at: TrainedAt, *, layer: int | None = None, hook: str | None = None) -> TrainedAt:
    """Where an SAE was trained, with our hook point and, where anyone says it, the layer.

    Files that name no place are believed to be of the residual stream.

    Args:
        trained_at: what the files say.
        layer: what the user says; None: nothing.
        hook: what the user says, as `submit --hook` takes it; None: nothing.

    Raises:
        UserError: nobody knows the place, or the user says another layer or hook point than the files.
    """
    if layer is not None and layer < 0:
        raise UserError(f"there is no layer {layer}: layers count from 0")
    given = HookPlace(RESIDUAL, None) if hook is None else _given(hook)
    named = None if trained_at.hook_point is None else place_of(trained_at.hook_point)
    if trained_at.hook is not None:
        named = HookPlace(trained_at.hook, None if named is None else named.layer)
    if named is None and trained_at.hook_point is not None and hook is None:
        raise UserError(
            f"this SAE was trained on {trained_at.hook_point}, a place that hsae does not know: it knows {_KNOWN};"
            " import it with --hook, the hook point of ours that it is"
        )
    if named is not None and hook is not None and not same_hook(named.hook, given.hook):
        where = trained_at.hook_point or named.hook
        raise UserError(f"this SAE was trained on {where}, which is the hook point {named.hook}: correct --hook")
    asked = given.layer if layer is None else layer
    found = trained_at.layer if named is None or named.layer is None else named.layer
    if found is not None and asked is not None and found != asked:
        where = trained_at.hook_point or f"layer {found}"
        raise UserError(f"this SAE was trained on {where}, which is layer {found} here, not {asked}: correct --layer")
    return trained_at._replace(layer=asked if found is None else found, hook=(named or given).hook)


def place_of(hook_point: str) -> HookPlace | None:
    """A package's name of a place as our hook point and layer; None where we do not know it.

    Raises:
        UserError: it is what enters the first block, which is the output of none.
    """
    found = _NAMED.fullmatch(hook_point) or _OF_LAYER.fullmatch(hook_point)
    if found is not None and found["part"] == "resid_pre":
        if int(found["layer"]) == 0:
            raise UserError(
                f"this SAE was trained on {hook_point}, what enters the first block: layers are its outputs"
            )
        return HookPlace(RESIDUAL, int(found["layer"]) - 1)
    if found is not None:
        return HookPlace(_PARTS[found["part"]], int(found["layer"]))
    module = _MODULE.fullmatch(hook_point)
    if module is not None and not _OTHER_HOOK_OR_BLOCK.search(module["inside"]):
        inside = module["inside"]
        return HookPlace(f"{module['blocks']}.*{inside}" if inside else RESIDUAL, int(module["layer"]))
    if hook_point in HOOKS:
        return HookPlace(hook_point, None)
    if "*" in hook_point and _STARRED.fullmatch(hook_point):
        return HookPlace(RESIDUAL if hook_point.endswith("*") else hook_point, None)
    return None


def hook_point_of(layer: int, hook: str = RESIDUAL) -> str:
    """What TransformerLens, SAELens and Prisma call a hook point of a block.

    Where they have no name for it, it is the path of the module; with two stars, for a stage and a block, these stay.
    """
    named = prisma_name(hook, layer)
    if named is not None:
        return named
    return hook.replace("*", str(layer)) if hook.count("*") == 1 else hook


def _given(hook: str) -> HookPlace:
    """What a user calls a hook point: a name of ours, or the path of a module of one block or of every block."""
    hook = hook.strip(".")
    return HookPlace(hook, None) if hook in HOOKS else place_of(hook) or HookPlace(hook, None)
