"""Reads an SAE of any format as our tensors and config."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hsae.backbones.hooks.names import RESIDUAL
from hsae.errors import UserError
from hsae.sae.config import MAX_EXPANSION, SaeConfig
from hsae.sae.exchange.foreign import fold
from hsae.sae.exchange.formats import FORMATS
from hsae.sae.exchange.formats.format import SaeFormat
from hsae.sae.exchange.hook_points import TrainedAt, place_of, settled_place
from hsae.sae.exchange.native import NATIVE, is_native, read_native
from hsae.sae.exchange.place import SaePlace
from hsae.sae.exchange.source import Checkpoint, PickleError, find_checkpoint
from hsae.sae.origin import SaeOrigin

FORMAT_NAMES = (NATIVE, *FORMATS)
"""What `--format` may be."""


@dataclass(frozen=True)
class ReadSae:
    """An SAE that was read.

    Attributes:
        config: its config; with `imported`, unless it is of our own format and nobody asked for a name.
        tensors: as `SparseAutoencoder.to_tensors` returns them.
        trained_at: where it was trained, as far as is known.
    """

    config: SaeConfig
    tensors: Mapping[str, Tensor]
    trained_at: TrainedAt


def read_sae(
    place: SaePlace,
    *,
    format_name: str | None = None,
    name: str | None = None,
    layer: int | None = None,
    model: str | None = None,
    hook: str | None = None,
) -> ReadSae:
    """Read an SAE; nothing is changed.

    Args:
        place: where it is.
        format_name: its format; None: recognised by its config and tensors.
        name: what it is called here; None: as its folder or file is. An SAE of our own format becomes an imported one
            only if a name is given.
        layer: the 0-based layer that it is of, where its files don't say.
        model: the model that it is of, where its files don't say.
        hook: the hook point that it is of, as `submit --hook` takes it, where its files don't say; None: the residual
            stream.

    Raises:
        ServiceError: the hub cannot be reached.
        UserError: the files cannot be read, or have something that cannot be expressed here.
    """
    if format_name is not None and format_name not in FORMAT_NAMES:
        raise UserError(f"there is no format {format_name}: choose from {', '.join(FORMAT_NAMES)}")
    try:
        checkpoint = find_checkpoint(place)
    except PickleError as error:
        raise _how_to_convert(error, format_name) from error
    tensors = checkpoint.tensors()
    own_name = name or _own_name(place, checkpoint)
    if format_name == NATIVE or (format_name is None and is_native(checkpoint.config)):
        config, own_tensors, trained_at = read_native(checkpoint, tensors)
        if hook is None:
            trained_at = _with_imported_hook(config, trained_at)
        found = settled_place(trained_at, layer=layer, hook=hook)._replace(model=model or trained_at.model)
        if name is None:
            return ReadSae(config, own_tensors, found)
        origin = config.imported
        notes = () if origin is None else origin.notes
        settings = _own_settings(config)
        return ReadSae(
            _imported(config.kind, settings, own_tensors, (own_name, NATIVE), found, notes), own_tensors, found
        )
    found_format = FORMATS[format_name] if format_name is not None else _recognised(checkpoint, tensors)
    foreign, trained_at = found_format.read(checkpoint, tensors)
    found = settled_place(trained_at, layer=layer, hook=hook)._replace(model=model or trained_at.model)
    folded = fold(foreign)
    config = _imported(folded.kind, folded.settings, folded.tensors, (own_name, found_format.name), found, folded.notes)
    return ReadSae(config, folded.tensors, found)


def _with_imported_hook(config: SaeConfig, trained_at: TrainedAt) -> TrainedAt:
    """With the hook point of the config, where the files name a place of another program and no hook point of ours.

    Such files were written when the residual stream was left out at every place.
    """
    origin, hook_point = config.imported, trained_at.hook_point
    if origin is None or trained_at.hook is not None or hook_point is None or place_of(hook_point) is not None:
        return trained_at
    return trained_at._replace(hook=origin.hook)


def _imported(
    kind: str,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    called: tuple[str, str],
    trained_at: TrainedAt,
    notes: tuple[str, ...],
) -> SaeConfig:
    """The config of an imported SAE; `called` is its name and its format."""
    n_latents, d_model = tensors["encoder_weight"].shape
    name, format_name = called
    origin = SaeOrigin(
        name=name,
        format=format_name,
        key=content_key(kind, settings, tensors),
        d_model=d_model,
        n_latents=n_latents,
        layer=trained_at.layer,
        hook_point=trained_at.hook_point,
        model=trained_at.model,
        tokens=trained_at.tokens,
        notes=notes,
        hook=trained_at.hook or RESIDUAL,
    )
    # Of dictionaries whose size is no multiple of d_model the nearest number; `n_latents_of` knows the size.
    expansion = min(max(1, round(n_latents / d_model)), MAX_EXPANSION)
    return SaeConfig(kind=kind, expansion=expansion, imported=origin, **settings)


def content_key(kind: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """sha256 over what an SAE computes with: its kind, its settings, its tensors."""
    digest = hashlib.sha256(json.dumps({"kind": kind, **settings}, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        digest.update(f"{name}:{list(tensors[name].shape)}:".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _own_settings(config: SaeConfig) -> dict[str, Any]:
    """The kind's own settings, as its config is written, without those of the training."""
    counts, defaults = config.variant.latent_counts(), type(config.variant)().stated_settings()
    own = config.variant.stated_settings()
    return {name: value for name, value in own.items() if name in counts or value != defaults.get(name)}


def _recognised(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> SaeFormat:
    found = [each for each in FORMATS.values() if each.recognises(checkpoint.config, tensors.keys())]
    if len(found) == 1:
        return found[0]
    beside = "its config is of no known package" if checkpoint.config else "there is no config file beside it"
    raise UserError(
        f"{checkpoint.place} is of no format that can be told from its files ({beside}): name it with --format, one of"
        f" {', '.join(FORMAT_NAMES)}"
    )


def _how_to_convert(error: PickleError, format_name: str | None) -> UserError:
    """What to do with a pickle, by the package that wrote it where that can be told."""
    named = [FORMATS[format_name]] if format_name in FORMATS else []
    found = named or [each for each in FORMATS.values() if each.recognises(error.config, ())]
    # A state dict by itself is what most packages save.
    one = found[0] if len(found) == 1 else FORMATS["dictionary_learning"]
    return UserError(
        f"{error}: convert it where you trust it, in its folder: {one.conversion(error.weights)} (docs/exchange.md)"
    )


def _own_name(place: SaePlace, checkpoint: Checkpoint) -> str:
    """The name of the folder or file, or of a repository and its subfolder, without slashes."""
    path = Path(place.source).expanduser()
    if path.is_file():
        return path.stem
    if path.is_dir():
        return checkpoint.weights.absolute().parent.name
    parts = (place.source.rsplit("/", 1)[-1], *place.subfolder.strip("/").split("/"))
    return "-".join(part for part in parts if part)
