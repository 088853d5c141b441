"""From the name of a hook point to a module of a built model."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hsae.backbones.hooks.family import Addition, Family
from hsae.backbones.hooks.names import ATTENTION, EMBEDDING, HOOKS, MLP, RESIDUAL, is_path, same_hook
from hsae.errors import UserError

_NEAR = 5
_NOT_OF_IMAGES = ("text", "language", "decoder")  # parts of a model with blocks of the same names


@dataclass(frozen=True, slots=True)
class Place:
    """A module whose output is read.

    Attributes:
        module: the module.
        factor: what its output is multiplied with; None: nothing.
    """

    module: nn.Module
    factor: Tensor | None = None

    def read(self, output: Any) -> Tensor:
        """The tensor of the module's output, the first of several."""
        while not isinstance(output, Tensor):
            output = output[0]
        return output if self.factor is None else output * self.factor


@dataclass(frozen=True, slots=True)
class SettledHook:
    """A hook point by its canonical name, and the one layer that it is at; None: it is in every block."""

    hook: str
    layer: int | None = None


def block_paths(model: nn.Module, family: Family) -> tuple[str, ...]:
    """The paths of the blocks in the order in which they follow each other; none where the model has none."""
    pattern = _pattern(family.blocks)
    found = [(match, path) for path, _ in model.named_modules() if (match := pattern.fullmatch(path))]
    return tuple(path for match, path in sorted(found, key=lambda each: [int(number) for number in each[0].groups()]))


def _pattern(star_path: str) -> re.Pattern[str]:
    return re.compile(r"(\d+)".join(map(re.escape, star_path.split("*"))))


def settle_hook(model: nn.Module, family: Family, hook: str, name: str) -> SettledHook:
    """The canonical name of a hook point, so that one place has one key.

    `encoder.layer.8` is the residual stream of layer 8, `encoder.layer.8.mlp.fc1` and `encoder.layer.*.mlp.fc1` are the
    same module of one block and of every block. A path with a star may leave out modules around the blocks, or have
    more of them, as other classes of the same model do: `layers.*.mlp` and `vision_model.encoder.layers.*.mlp` are
    `encoder.layers.*.mlp`. A module outside of the blocks stays as it is; its layer is found by running the model.

    Args:
        model: the whole model; its weights do not matter.
        family: where its blocks lie.
        hook: as the user wrote it.
        name: of the model, for messages.

    Raises:
        UserError: the model has no such hook point; names the nearest ones.
    """
    paths = block_paths(model, family)
    if not is_path(hook):
        if _path_in_block(family, hook) is None and hook != EMBEDDING:
            raise UserError(f"the blocks of {name} have no {hook} hook point: choose {_offered(family)}, or a module")
        if hook == EMBEDDING and family.embedding is None:
            raise UserError(f"{name} has no embedding after its blocks: choose {_offered(family)}, or a module's path")
        return SettledHook(hook, len(paths) - 1 if hook == EMBEDDING else None)
    hook = hook.strip(".")
    for layer, path in enumerate(paths):
        if hook == path:
            return SettledHook(RESIDUAL, layer)
        if hook.startswith(path + "."):
            _module(model, hook, name, family)
            return SettledHook(family.blocks + hook[len(path) :], layer)
    if "*" in hook:
        inside = _inside_blocks(family, hook)
        if inside == "":
            return SettledHook(RESIDUAL)
        if inside is None or not paths:
            raise _no_such(model, family, hook, name)
        for path in paths:
            _module(model, path + inside, name, family, asked=hook)
        return SettledHook(family.blocks + inside)
    _module(model, hook, name, family)
    return SettledHook(hook)


def _inside_blocks(family: Family, hook: str) -> str | None:
    """What follows the blocks in a path with stars, with its dot; empty: nothing. None: it is no path of the blocks."""
    end = hook.rindex("*") + 1
    blocks, inside = hook[:end], hook[end:]
    around = blocks.removesuffix(family.blocks)
    is_of_others = around != blocks and any(part in around for part in _NOT_OF_IMAGES)
    return inside if blocks != "*" and same_hook(blocks, family.blocks) and not is_of_others else None


def place_of(model: nn.Module, family: Family, hook: str, layer: int, name: str) -> Place:
    """Where a settled hook point of a layer lies.

    Raises:
        UserError: the model has no such hook point.
    """
    paths = block_paths(model, family)
    if hook == EMBEDDING and family.embedding is not None:
        return Place(_module(model, family.embedding.path, name, family))
    inside = _path_in_block(family, hook)
    if inside is None:
        return Place(_module(model, hook, name, family))
    block = model.get_submodule(paths[layer])
    if not inside.path:
        return Place(block)
    module = _module(model, f"{paths[layer]}.{inside.path}", name, family)
    factor = getattr(block, inside.factor) if inside.factor else None
    return Place(module, factor if isinstance(factor, Tensor) else None)


def _path_in_block(family: Family, hook: str) -> Addition | None:
    """The module of a block that a hook point names; of an empty path: the block itself. None: none of a block."""
    if hook == RESIDUAL:
        return Addition("")
    if hook in (ATTENTION, MLP):
        return family.attention if hook == ATTENTION else family.mlp
    return Addition(hook[len(family.blocks) + 1 :]) if hook.startswith(family.blocks + ".") else None


def _module(model: nn.Module, path: str, name: str, family: Family, *, asked: str = "") -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise _no_such(model, family, asked or path, name) from None


def _no_such(model: nn.Module, family: Family, hook: str, name: str) -> UserError:
    paths = [path for path, _ in model.named_modules() if path]
    near = near_names(hook, [*HOOKS, *paths])
    listed = f"near ones are {', '.join(near)}" if near else f"it has {', '.join(paths[:_NEAR])}..."
    return UserError(
        f"{name} has no module {hook}: {listed}; or choose {_offered(family)} (`models show` lists what a model has)"
    )


def near_names(wanted: str, names: Iterable[str], n: int = _NEAR) -> Sequence[str]:
    """The names that are most like the wanted one, the nearest first."""
    return difflib.get_close_matches(wanted, list(names), n=n, cutoff=0.5)


def hook_path(family: Family, hook: str) -> str:
    """The path of a hook point's module, with a star for the number of the block."""
    if hook == EMBEDDING:
        return family.embedding.path if family.embedding is not None else ""
    inside = _path_in_block(family, hook)
    if inside is None:
        return hook
    path = f"{family.blocks}.{inside.path}".rstrip(".")
    return f"{path} x {inside.factor}" if inside.factor else path


def offered_hooks(family: Family) -> tuple[str, ...]:
    """The hook points with a name of their own that models of a family have."""
    there = {RESIDUAL: True, ATTENTION: family.attention, MLP: family.mlp, EMBEDDING: family.embedding}
    return tuple(hook for hook, found in there.items() if found)


def _offered(family: Family) -> str:
    return ", ".join(offered_hooks(family))
