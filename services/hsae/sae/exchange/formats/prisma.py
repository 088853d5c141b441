"""ViT-Prisma: `config.json`, and `weights.pt` turned into safetensors."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hsae.errors import UserError
from hsae.sae.exchange.foreign import ForeignSae
from hsae.sae.exchange.formats.format import SaeFormat
from hsae.sae.exchange.formats.saelens import activation_of, encoder_decoder, refuse_normalisation
from hsae.sae.exchange.hook_points import TrainedAt, hook_point_of
from hsae.sae.exchange.source import Checkpoint

_KINDS = {"standard": "relu", "gated": "gated"}


class Prisma(SaeFormat):
    """SAEs of ViT-Prisma, https://github.com/Prisma-Multimodal/ViT-Prisma; its encoder always subtracts `b_dec`."""

    name = "prisma"
    title = "ViT-Prisma"

    def recognises(self, config: Mapping[str, Any], names: Collection[str]) -> bool:
        """By how it names the layer."""
        return {"hook_point_layer", "d_in"} <= set(config)

    def read(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> tuple[ForeignSae, TrainedAt]:
        """Standard and gated SAEs."""
        config, place = checkpoint.config, checkpoint.place
        architecture = config.get("architecture", "standard")
        if config.get("is_transcoder"):
            raise UserError(f"{place} is a transcoder, which does not reconstruct its input: only SAEs are imported")
        # Its runs normalise by layer_norm unless told otherwise, so a config without the setting means that.
        refuse_normalisation(config.get("normalize_activations", "layer_norm"), place)
        if architecture not in _KINDS:
            raise UserError(f"{place} has the architecture {architecture!r}: hsae imports {' and '.join(_KINDS)}")
        kind, settings = activation_of(config, _KINDS[architecture], place)
        foreign = encoder_decoder(tensors, place, kind=kind, settings=settings, subtracts_decoder_bias=True)
        return foreign, _trained_at(config)

    def tensors_of_pickle(self, weights: Path) -> str:
        """Checkpoints of a training hold the state beside the config."""
        return f"c = torch.load('{weights.name}', map_location='cpu', weights_only=False); t = c.get('state_dict', c)"


def _trained_at(config: Mapping[str, Any]) -> TrainedAt:
    layer = config["hook_point_layer"]
    if isinstance(layer, list) and len(layer) == 1:
        (layer,) = layer
    if not isinstance(layer, int):
        raise UserError(f"hook_point_layer {layer!r} is no number of a layer: one SAE is of one layer")
    subtype = config.get("layer_subtype")
    hook_point = f"blocks.{layer}.{subtype}" if isinstance(subtype, str) else config.get("hook_point")
    tokens = "cls" if config.get("cls_token_only") else "patches" if config.get("use_patches_only") else None
    model = config.get("model_name")
    return TrainedAt(
        hook_point=hook_point if isinstance(hook_point, str) else hook_point_of(layer),
        layer=layer,
        model=model if isinstance(model, str) else None,
        tokens=tokens,
    )
