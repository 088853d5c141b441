"""A forward pass that stops after a block, and goes on from there as often as one likes, with any stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hsae.devices.numerics import narrow_products, products
from hsae.devices.precision import Precision

Stream = Float[Tensor, "batch n_all d_model"]
"""The residual stream of all tokens: class token, registers, patches."""


@dataclass(frozen=True, slots=True)
class RecordedPass:
    """A pass through all blocks, with what is needed to run a part of it again.

    Attributes:
        streams: by layer the residual stream after the block, for the layers that were asked for.
        blocks: the blocks.
        calls: by block the arguments, besides the stream, with which the model called it (masks, position embeddings).
        precision: of the products and convolutions, those of `resume` among them.
    """

    streams: dict[int, Stream]
    blocks: nn.ModuleList
    calls: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]
    precision: Precision = "float32"

    def resume(self, stream: Stream, start: int, stop: int) -> Stream:
        """The stream after block `stop`, where it is `stream` after block `start`.

        From the unchanged stream of the same batch it has the very bits of the whole pass.
        """
        here = slice(start + 1, stop + 1)
        with products(self.precision), narrow_products(stream.device, self.precision):
            for block, (arguments, named) in zip(self.blocks[here], self.calls[here], strict=True):
                output = block(stream, *arguments, **named)
                stream = output if isinstance(output, Tensor) else output[0]
        return stream


def recorded_pass(
    model: nn.Module,
    blocks: nn.ModuleList,
    pixel_values: Tensor,
    options: dict[str, Any],
    layers: Sequence[int],
    precision: Precision = "float32",
) -> RecordedPass:
    """Run the model, keep the streams after `layers`, and how every block was called; without gradients.

    Args:
        model: the model; the last of `blocks` is its last block.
        blocks: its blocks.
        pixel_values: the images, of the model's type and on its device.
        options: arguments of its forward.
        layers: whose streams are kept.
        precision: of the products and convolutions, now and where the pass goes on.
    """
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    streams: dict[int, Stream] = {}

    def enter(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if arguments:
            calls.append((arguments[1:], named))
        else:
            calls.append(((), {name: value for name, value in named.items() if name != "hidden_states"}))

    def leave(layer: int) -> Any:
        def keep(module: nn.Module, arguments: Any, output: Any) -> None:
            stream = output if isinstance(output, Tensor) else output[0]
            streams[layer] = stream.clone()

        return keep

    handles = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in blocks]
    handles += [blocks[layer].register_forward_hook(leave(layer)) for layer in layers]
    try:
        with torch.no_grad(), products(precision), narrow_products(pixel_values.device, precision):
            model(pixel_values, **options)
    finally:
        for handle in handles:
            handle.remove()
    return RecordedPass(streams, blocks, tuple(calls), precision)
