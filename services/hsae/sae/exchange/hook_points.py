"""The names that packages give to places in a transformer, as our hook points and layers.

Our residual stream of layer l is what leaves block l (counted from 0): `blocks.<l>.hook_resid_post`. What enters block
l + 1 (`blocks.<l + 1>.hook_resid_pre`) is the same stream. What attention and MLP of block l add to it are
`blocks.<l>.hook_attn_out` and `blocks.<l>.hook_mlp_out`; other modules of a block are named by their path.
"""

import difflib
import re
from typing import NamedTuple

from hsae.backbones.hooks.names import ATTENTION, HOOKS, MLP, RESIDUAL, is_path, prisma_name, same_hook
from hsae.errors import UserError

_BLOCKS = r"(?:layers|layer|h|resblocks|blocks|block)"
_NAMED = re.compile(r"blocks\.(?P<layer>\d+)\.hook_(?P<part>resid_post|resid_pre|attn_out|mlp_out)")
_OF_LAYER = re.compile(r"(?P<part>resid_post|attention_out|attn_out|mlp_out)_layer_(?P<layer>\d+)")
_PARTS = {"resid_post": RESIDUAL, "attn_out": ATTENTION, "attention_out": ATTENTION, "mlp_out": MLP}
_MODULE = re.compile(rf"(?P<blocks>(?:[A-Za-z_]\w*\.)*{_BLOCKS})\.(?P<layer>\d+)(?P<inside>(?:\.\w+)*)")
_OTHER_HOOK_OR_BLOCK = re.compile(rf"\.hook_|\.{_BLOCKS}\.\d+")
_NUMBERED = re.compile(rf"\b(?P<blocks>stages|{_BLOCKS})\.\d+\b")
_STARRED = re.compile(r"(?:\w+|\*)(?:\.(?:\w+|\*))*")
_STAGED = re.compile(rf"(?:stages|{_BLOCKS})\.\d+\.{_BLOCKS}\.\d+")
_MODULES = ("embeddings",)  # of models, outside the blocks, and almost a name of ours
_WORDS = {ATTENTION: ("attn", "attention"), MLP: ("mlp",)}  # in the paths of modules
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
    given = HookPlace(RESIDUAL, layer) if hook is None else given_place(hook, layer)
    named = None if trained_at.hook_point is None else place_of(trained_at.hook_point)
    if trained_at.hook is not None:
        named = _stored(trained_at.hook, trained_at.layer, named)
    if named is None and trained_at.hook_point is not None and hook is None:
        raise UserError(
            f"this SAE was trained on {trained_at.hook_point}, a place that hsae does not know: it knows {_KNOWN};"
            " say which it is: `hsae-admin sae import PATH --hook residual` (or attention, mlp, a module's path),"
            " `hook=` in Python"
        )
    if named is not None and hook is not None and _may_be_same(named.hook, given.hook):
        named = HookPlace(given.hook, named.layer)  # only the model knows, and the user says it
    if named is not None and hook is not None and not same_hook(named.hook, given.hook):
        where = trained_at.hook_point or named.hook
        raise UserError(f"this SAE was trained on {where}, which is the hook point {named.hook}: correct --hook")
    asked = given.layer
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


def given_place(hook: str, layer: int | None = None) -> HookPlace:
    """What a user calls a hook point, by our name, and its layer.

    Args:
        hook: a name of ours, or the path of a module of one block or of every block.
        layer: what the user says; None: nothing.

    Raises:
        UserError: it is no hook point, one of several numbered blocks, or of another layer.
    """
    path = hook.strip(".")
    if path not in HOOKS and (not path or _is_misspelt(path)):
        raise UserError(f"there is no hook point {hook!r}: give {', '.join(HOOKS)}, or the path of a module")
    place = _given(hook)
    if place.layer is None and "*" not in place.hook and len(_NUMBERED.findall(path)) > 1:
        # Of a block in a stage both numbers vary; a number inside a block does not.
        starred = _NUMBERED.sub(r"\g<blocks>.*", path, count=2 if _STAGED.search(path) else 1)
        raise UserError(
            f"the hook point {hook} has several numbered blocks, and only the model tells which layer that is:"
            f" give {starred} and the layer (--layer)"
        )
    if layer is not None and place.layer is not None and layer != place.layer:
        raise UserError(f"the hook point {hook} is of layer {place.layer}, not {layer}: correct the layer or the hook")
    return HookPlace(place.hook, place.layer if layer is None else layer)


def _given(hook: str) -> HookPlace:
    hook = hook.strip(".")
    return HookPlace(hook, None) if hook in HOOKS else place_of(hook) or HookPlace(hook, None)


def _is_misspelt(word: str) -> bool:
    """Whether a word is almost a name of ours, and no module that models have."""
    return "." not in word and word not in _MODULES and bool(difflib.get_close_matches(word.lower(), HOOKS, cutoff=0.8))


def _stored(hook: str, layer: int | None, named: HookPlace | None) -> HookPlace:
    """The hook point of files of ours, which may be the path of one block; `named`: the place beside it."""
    own = _given(hook)
    if own.layer is not None and layer not in (None, own.layer):
        return HookPlace(hook, layer)  # the number is that of a stage, as in encoder.layers.1.downsample
    return HookPlace(own.hook, own.layer if named is None or named.layer is None else named.layer)


def _may_be_same(named: str, given: str) -> bool:
    """Whether one is what a part of a block adds, and the other the path of a module that may be this part."""
    for ours, path in ((named, given), (given, named)):
        if ours in _WORDS and is_path(path) and "*" in path:
            inside = path[path.rindex("*") + 1 :]
            others = next(words for part, words in _WORDS.items() if part != ours)
            return not any(word in inside for word in others)
    return False
