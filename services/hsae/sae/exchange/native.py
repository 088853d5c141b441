"""Our own format: `config.json` and `model.safetensors`; docs/storage-format.md is the norm."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hsae.backbones.hooks.names import RESIDUAL
from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.formats.format import WrittenFiles
from hsae.sae.exchange.hook_points import TrainedAt, place_of
from hsae.sae.exchange.source import Checkpoint

NATIVE = "hsae"
_FORMAT, _VERSION = "hsae.sae", 1


def is_native(config: Mapping[str, Any]) -> bool:
    """Whether a config file is ours."""
    return config.get("format") == _FORMAT


def read_native(
    checkpoint: Checkpoint, tensors: Mapping[str, Tensor]
) -> tuple[SaeConfig, Mapping[str, Tensor], TrainedAt]:
    """Config, tensors, and where it was trained.

    Raises:
        UserError: the config file is of a later version, or not ours, or the file has no latents.
    """
    content, place = checkpoint.config, checkpoint.place
    if not is_native(content):
        raise UserError(f"{place} has no config.json of hsae beside it: give the folder that `save_pretrained` wrote")
    version = content.get("version")
    if not isinstance(version, int) or version > _VERSION:
        raise UserError(f"the config of {place} has the version {version}, and this hsae reads {_VERSION}: update hsae")
    encoder = tensors.get("encoder_weight")
    if encoder is None or encoder.ndim != 2 or encoder.numel() == 0:
        found = "is missing" if encoder is None else f"has the shape {list(encoder.shape)}"
        raise UserError(f"encoder_weight [n_latents, d_model] of {place} {found}: this is no SAE, write it again")
    config = content.get("config")
    if not isinstance(config, dict):
        raise UserError(f"the config of {place} has no settings of an SAE: write it again")
    where = content.get("trained_at")
    where = where if isinstance(where, dict) else {}
    layer = where.get("layer")
    return (
        SaeConfig.parse(config),
        tensors,
        TrainedAt(
            hook_point=_text(where.get("hook_point")),
            layer=layer if isinstance(layer, int) and layer >= 0 else None,
            model=_text(where.get("model")),
            tokens=_text(where.get("tokens")),
            hook=_text(where.get("hook")) or None,
        ),
    )


def write_native(config: SaeConfig, tensors: Mapping[str, Tensor], trained_at: TrainedAt) -> WrittenFiles:
    """The files of an SAE as it is, with its scale and its training settings."""
    where = {name: value for name, value in trained_at._asdict().items() if value is not None}
    place = None if trained_at.hook_point is None else place_of(trained_at.hook_point)
    is_told = trained_at.hook_point is None or (place is not None and place.hook == RESIDUAL)
    if trained_at.hook == RESIDUAL and is_told:
        del where["hook"]  # what a reader takes it for without
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "config": config.model_dump(mode="json"),
        "trained_at": where,
    }
    hint = "hsae.SparseAutoencoder.from_pretrained(FOLDER)"
    return WrittenFiles("config.json", content, "model.safetensors", tensors, hint)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
