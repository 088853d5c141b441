"""What the hook points of a model give, found by running it without numbers."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from hsae.backbones.hooks.family import Family
from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.hooks.places import SettledHook, block_paths, place_of
from hsae.backbones.spec import HookShape
from hsae.errors import UserError

# More than one, so that a tensor that does not keep images apart is seen as such.
_N_IMAGES = 2

Sizes = tuple[int, ...]


def measured_shapes(
    model: nn.Module,
    family: Family,
    settled: SettledHook,
    arguments: Callable[[Tensor], Mapping[str, Any]],
    image_size: tuple[int, int],
    *,
    tokens: HookShape,
    name: str,
) -> dict[int, HookShape]:
    """By layer what a hook point gives for an image.

    Args:
        model: the whole model, on any device, also `meta`.
        family: where its blocks lie.
        settled: the hook point.
        arguments: makes the model's arguments of pixel values.
        image_size: (height, width) of these.
        tokens: what tells the tokens before the patches from the patches; of a staged family only its axes count.
        name: of the model, for messages.

    Raises:
        UserError: the model does not run, or what the hook point gives has no tokens.
    """
    paths = block_paths(model, family)
    layers = range(len(paths)) if settled.layer is None else (settled.layer,)
    streams: dict[int, Sizes] = {}
    found: dict[int, Sizes] = {}

    def note_stream(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        place = place_of(model, family, RESIDUAL, layer, name)

        def hook(module: nn.Module, given: Any, output: Any) -> None:
            streams[layer] = tuple(place.read(output).shape)

        return hook

    def note(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        place = place_of(model, family, settled.hook, layer, name)

        def hook(module: nn.Module, given: Any, output: Any) -> None:
            try:
                found[layer] = tuple(place.read(output).shape)
            except (TypeError, IndexError, KeyError) as error:
                raise UserError(f"the hook point {settled.hook} of {name} gives no tensor: choose another") from error

        return hook

    device = next(model.parameters()).device
    with ExitStack() as stack, torch.no_grad():
        for layer, path in enumerate(paths):
            module = model.get_submodule(path)
            stack.callback(module.register_forward_hook(note_stream(layer)).remove)
        for layer in layers:
            module = place_of(model, family, settled.hook, layer, name).module
            stack.callback(module.register_forward_hook(note(layer)).remove)
        try:
            model(**arguments(torch.zeros(_N_IMAGES, 3, *image_size, device=device)))
        except (RuntimeError, ValueError, AssertionError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{name} does not run on images of {image_size[0]} x {image_size[1]} ({reason})") from error
    missing = [layer for layer in layers if layer not in found]
    if missing:
        raise UserError(f"the hook point {settled.hook} of {name} is never computed: choose another")
    return {
        layer: _shape(found[layer], streams.get(layer), family, tokens, f"hook point {settled.hook} of {name}")
        for layer in layers
    }


def layer_of_module(
    model: nn.Module, family: Family, path: str, arguments: Callable[[Tensor], Mapping[str, Any]],
    image_size: tuple[int, int],
) -> int:  # fmt: skip
    """The layer of a module outside of the blocks: that of the first block that ends after it, or the last one."""
    paths = block_paths(model, family)
    n_ended = 0
    at: list[int] = []

    def end(module: nn.Module, given: Any, output: Any) -> None:
        nonlocal n_ended
        n_ended += 1

    def note(module: nn.Module, given: Any, output: Any) -> None:
        at.append(n_ended)

    device = next(model.parameters()).device
    with ExitStack() as stack, torch.no_grad():
        for block in paths:
            stack.callback(model.get_submodule(block).register_forward_hook(end).remove)
        module = model.get_submodule(path)
        stack.callback(module.register_forward_hook(note).remove)
        model(**arguments(torch.zeros(_N_IMAGES, 3, *image_size, device=device)))
    return min(at[0], len(paths) - 1) if at else len(paths) - 1


def _shape(sizes: Sizes, stream: Sizes | None, family: Family, tokens: HookShape, where: str) -> HookShape:
    """The shape of a tensor of `_N_IMAGES` images."""
    if sizes[:1] == (_N_IMAGES,):
        if len(sizes) == 2:
            return HookShape(width=sizes[1], n_patches=0, n_prefix_tokens=1, has_class_token=True, axes="vector")
        if len(sizes) == 3:
            n_all, width = sizes[1:]
            if family.is_staged:
                return HookShape(width=width, n_patches=n_all)
            if n_all == tokens.n_prefix_tokens + tokens.n_patches:
                return tokens.model_copy(update={"width": width})
            if n_all == tokens.n_patches:  # such as patches before the class token is put in front of them
                return HookShape(width=width, n_patches=n_all)
        if len(sizes) == 4:
            return _map_shape(sizes, stream, family)
    raise UserError(
        f"the {where} gives {list(sizes)} for {_N_IMAGES} images, and no vector for each patch: choose another"
    )


def _map_shape(sizes: Sizes, stream: Sizes | None, family: Family) -> HookShape:
    axes = family.map_axes
    if stream is not None and len(stream) == 4:  # the block's own map says how many rows and columns there are
        grid = stream[2:] if family.map_axes == "channels_first" else stream[1:3]
        first, last = sizes[2:] == grid, sizes[1:3] == grid
        if first != last:
            axes = "channels_first" if first else "channels_last"
    if axes == "channels_first":
        return HookShape(width=sizes[1], n_patches=sizes[2] * sizes[3], axes=axes)
    return HookShape(width=sizes[3], n_patches=sizes[1] * sizes[2], axes=axes)
