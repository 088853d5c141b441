"""One forward pass with everything that an explanation needs: gradients flow from a layer down to the embeddings."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hsae.backbones.hooks.places import Place
from hsae.backbones.passes.ended import AllReadError
from hsae.errors import HsaeError


class NoAttentionWeightsError(HsaeError):
    """The backbone does not give the attention weights of its blocks; the message is one line."""


@dataclass(frozen=True, slots=True)
class TracedPass:
    """A pass through the blocks 0 to `layer`; tensors have all tokens (class, registers, patches) and a graph.

    In a model whose blocks pass on a map of rows and columns they are such maps, each as its block has it.

    Attributes:
        stream: the residual stream after the last block.
        embeddings: the input of the first block, where the graph begins.
        block_input: the input of the last block.
        attentions: by block the attention weights after the softmax; empty where they were not asked for.
    """

    stream: Float[Tensor, "batch n_all d_model"] | Float[Tensor, "batch a b c"]
    embeddings: Float[Tensor, "batch n_all d_model"] | Float[Tensor, "batch a b c"]
    block_input: Float[Tensor, "batch n_all d_model"] | Float[Tensor, "batch a b c"]
    attentions: tuple[Float[Tensor, "batch n_heads n_all n_all"], ...]


def traced_pass(
    model: nn.Module, blocks: Sequence[nn.Module], arguments: Mapping[str, Any], *, attention: bool, is_cut: bool
) -> TracedPass:
    """Run the model with a graph from the input of its first block on, up to the last of `blocks`.

    Fast attention kernels never hold their weights. With `attention` the model computes them in plain steps for this
    pass; activations then differ in their last bits.

    Args:
        model: the model.
        blocks: its blocks, from the first on.
        arguments: of its forward; the images have the model's type and are on its device.
        attention: whether the attention weights are wanted; only of a model that is cut.
        is_cut: whether the model ends after the last of `blocks`. If not, the pass ends there.

    Raises:
        NoAttentionWeightsError: the model does not give them.
    """
    found: dict[str, Tensor] = {}
    first, last = blocks[0], blocks[-1]

    def begin(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        embeddings = _hidden(given, named).detach().requires_grad_()
        found["embeddings"] = embeddings
        if given:
            return (embeddings, *given[1:]), named
        return given, {**named, "hidden_states": embeddings}

    def enter_last(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        found["block_input"] = _hidden(given, named)

    def leave_last(module: nn.Module, given: Any, output: Any) -> None:
        found["stream"] = Place(last).read(output)
        if not is_cut:
            raise AllReadError

    handles = [
        first.register_forward_pre_hook(begin, with_kwargs=True),
        last.register_forward_pre_hook(enter_last, with_kwargs=True),
        last.register_forward_hook(leave_last),
    ]
    output: Any = None
    try:
        with torch.enable_grad(), _plain_attention(model, wanted=attention), suppress(AllReadError):
            output = model(**arguments, **({"output_attentions": True} if attention else {}))
    finally:
        for handle in handles:
            handle.remove()
    attentions = tuple(output.attentions or ()) if attention else ()
    if attention:
        _check(attentions, len(blocks), found["stream"], type(model).__name__)
    return TracedPass(found["stream"], found["embeddings"], found["block_input"], attentions)


def no_attention_weights(name: str) -> NoAttentionWeightsError:
    """Of a model by its name: it does not give the weights of all blocks, and what to do."""
    return NoAttentionWeightsError(f"{name} gives no attention weights of all blocks: choose the method gradcam")


def _hidden(given: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    hidden: Tensor = given[0] if given else named["hidden_states"]
    return hidden


@contextmanager
def _plain_attention(model: nn.Module, *, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    config: Any = model.config
    before = config._attn_implementation
    try:
        model.set_attn_implementation("eager")  # type: ignore[operator]
    except (AttributeError, ValueError) as error:
        raise no_attention_weights(type(model).__name__) from error
    try:
        yield
    finally:
        model.set_attn_implementation(before)  # type: ignore[operator]


def _check(attentions: tuple[Any, ...], n_blocks: int, stream: Tensor, name: str) -> None:
    """Raise unless there is one square matrix with a graph per block and head."""
    n_tokens = stream.shape[1]
    sound = len(attentions) == n_blocks and all(
        isinstance(each, Tensor) and each.ndim == 4 and each.shape[2:] == (n_tokens, n_tokens) and each.requires_grad
        for each in attentions
    )
    if not sound:
        raise no_attention_weights(name)
