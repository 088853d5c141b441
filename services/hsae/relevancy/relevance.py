"""Maps of a batch of images, each with its own latent, in one forward and one backward pass.

chefer      gradient-weighted attention, propagated from the layer down to the patches
gradcam     Grad-CAM on the patch tokens that enter the layer's block
attention   control: the head mean of that block's attention, without a gradient
gradient    control: the norm of gradient x input at the patches' embeddings
activation  control: what the latent is on each patch token after the layer
random      control: noise

Special tokens (class, distillation, registers) take part in the propagation and have no place in a map. Where blocks
differ in their number of patches a map has those of the layer, and the norms at the embeddings are averaged over them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.backbones.passes.traced_pass import TracedPass
from hsae.backbones.spec import Tokens, check_tokens
from hsae.devices.numerics import products
from hsae.relevancy.config import MAP_METHODS, WITH_ATTENTION, MapMethod
from hsae.relevancy.formulas import Propagation, grad_cam, gradient_norm, last_attention
from hsae.relevancy.objective import Objective


@dataclass(frozen=True, slots=True)
class Relevance:
    """The maps of a batch.

    Attributes:
        activations: the objective of every image: 0 where nothing fires.
        maps: by method, non-negative; not normalised.
    """

    activations: Float[Tensor, "n"]
    maps: dict[MapMethod, Float[Tensor, "n n_patch_rows n_patch_cols"]]


def relevance(
    backbone: Backbone,
    layer: int,
    objective: Objective,
    images: Float[Tensor, "n 3 height width"],
    method: MapMethod = "chefer",
) -> Float[Tensor, "n n_patch_rows n_patch_cols"]:
    """The maps of one method; see `relevance_maps`."""
    return relevance_maps(backbone, layer, objective, images, (method,)).maps[method]


def relevance_maps(
    backbone: Backbone,
    layer: int,
    objective: Objective,
    images: Float[Tensor, "n 3 height width"],
    methods: Sequence[MapMethod],
    *,
    seeds: Sequence[int] | None = None,
) -> Relevance:
    """How much every patch of every image matters for the objective.

    Args:
        backbone: with `layer` as its deepest layer.
        layer: whose activations the objective reads.
        objective: one number per image.
        images: from `Backbone.pixel_values`.
        methods: which maps.
        seeds: of the random map of every image; None: its place in the batch.

    Returns:
        float32 on the CPU.

    Raises:
        NoAttentionWeightsError: a method needs attention weights, and the backbone does not give them.
        UserError: the backbone has no such tokens.
        ValueError: the backbone goes deeper than `layer`, or a method is unknown.
    """
    if backbone.layers[-1] != layer:
        raise ValueError(f"layer {layer} is not the deepest of this backbone, {backbone.layers[-1]}")
    unknown = [method for method in methods if method not in MAP_METHODS]
    if unknown:
        raise ValueError(f"{unknown[0]} is no method: choose from {', '.join(MAP_METHODS)}")
    check_tokens(backbone.spec, objective.tokens)
    n_prefix, grid = backbone.shape(layer).n_prefix_tokens, backbone.patch_grid
    found: dict[MapMethod, Tensor] = {}
    if "random" in methods:
        found["random"] = torch.stack([_noise(seed, grid) for seed in (seeds or range(len(images)))])
    traced = backbone.traced(images, attention=bool(set(methods) & set(WITH_ATTENTION)))
    stream = backbone.as_tokens(traced.stream)
    read = _select(stream, objective, n_prefix)
    each = objective.differentiable(read)
    with torch.no_grad():
        fires = objective.activations(read.detach())
        # The token that fires most; where none fires, the one that is nearest to it.
        by = torch.where((fires > 0).any(1, keepdim=True), fires, each.detach())
        rows = _read_rows(objective.tokens, by, n_prefix, stream.shape[1])
        if "activation" in methods:
            found["activation"] = objective.activations(stream.detach()[:, n_prefix:].float())
        if "attention" in methods:
            found["attention"] = last_attention(rows, traced.attentions[-1])[:, n_prefix:]
    value = each.gather(1, by.argmax(1, keepdim=True))
    found |= _by_gradient(backbone, traced, value, rows, methods)
    maps = {method: found[method].float().cpu().view(-1, *grid) for method in methods}
    return Relevance(fires.amax(1).float().cpu(), maps)


def _by_gradient(
    backbone: Backbone, traced: TracedPass, value: Float[Tensor, "batch 1"], rows: Float[Tensor, "batch n_all"],
    methods: Sequence[MapMethod],
) -> dict[MapMethod, Float[Tensor, "batch n_patches"]]:  # fmt: skip
    """The maps of the methods that need a backward pass: one for all of them."""
    if not {"chefer", "gradcam", "gradient"} & set(methods):
        return {}
    found: dict[MapMethod, Tensor] = {}
    layer = backbone.layers[-1]
    n_prefix = backbone.shape(layer).n_prefix_tokens
    propagation = Propagation(rows)
    if "chefer" in methods:
        for attention in traced.attentions:
            propagation.through(attention)
    with products(backbone.precision):
        of_block, of_embeddings = torch.autograd.grad(value.sum(), (traced.block_input, traced.embeddings))
    if "chefer" in methods:
        found["chefer"] = propagation.row[:, n_prefix:]
    if "gradcam" in methods:
        found["gradcam"] = grad_cam(*(backbone.as_tokens(one)[:, n_prefix:] for one in (traced.block_input, of_block)))
    if "gradient" in methods:
        norms = gradient_norm(*(backbone.as_tokens(one) for one in (traced.embeddings, of_embeddings)))[:, n_prefix:]
        found["gradient"] = _averaged(norms, backbone.grid_of(0), backbone.grid_of(layer))
    return found


def _averaged(
    norms: Float[Tensor, "batch n_embedded"], embedded: tuple[int, int], grid: tuple[int, int]
) -> Float[Tensor, "batch n_patches"]:
    """The values of the embeddings' patches, averaged over those that a patch of the layer covers."""
    if embedded == grid:
        return norms
    return torch.nn.functional.adaptive_avg_pool2d(norms.view(-1, 1, *embedded), grid).flatten(1)


def _select(
    stream: Float[Tensor, "batch n_all d_model"], objective: Objective, n_prefix: int
) -> Float[Tensor, "batch n d_model"]:
    """The tokens that the objective reads, as extraction selects them."""
    if objective.tokens == "cls":
        return stream[:, :1].float()
    patches = stream[:, n_prefix:].float()
    return patches.mean(dim=1, keepdim=True) if objective.tokens == "mean" else patches


def _read_rows(tokens: Tokens, by: Float[Tensor, "batch n"], n_prefix: int, n_all: int) -> Float[Tensor, "batch n_all"]:
    """The weights of all tokens with which the objective reads them: 1 in all.

    Of patch tokens only the one counts on which `by` is greatest, the first of several.
    """
    rows = torch.zeros(len(by), n_all, device=by.device)
    if tokens == "cls":
        rows[:, 0] = 1
    elif tokens == "mean":
        rows[:, n_prefix:] = 1 / (n_all - n_prefix)
    else:
        rows.scatter_(1, by.argmax(1, keepdim=True) + n_prefix, 1.0)
    return rows


def _noise(seed: int, grid: tuple[int, int]) -> Float[Tensor, "n_patch_rows n_patch_cols"]:
    return torch.rand(grid, generator=torch.Generator().manual_seed(seed))
