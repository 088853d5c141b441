"""Models of timm: `timm:NAME`, `timm:OWNER/REPOSITORY`, `timm:FOLDER` or `timm:ARCHITECTURE/FILE.safetensors`."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import nn

from hsae.backbones.hooks.family import Family
from hsae.backbones.hooks.places import near_names
from hsae.backbones.loading.library_families import TIMM
from hsae.backbones.loading.library_files import (
    LibraryFiles,
    check_revision,
    folder_files,
    hub_files,
    processor,
    weight_file,
)
from hsae.backbones.spec import HookShape
from hsae.errors import UserError

PACKAGES: tuple[str, ...] = ("torch", "timm")
_CONFIG, _WEIGHTS = "config.json", ("model.safetensors",)


def find(rest: str, *, revision: str | None, cache_dir: Path | None, weights: bool, fetch: bool) -> LibraryFiles:
    """The files of a model.

    Args:
        rest: the name without its prefix.
        revision: commit, branch or tag on the hub, or the checksum that local files must have.
        cache_dir: cache of hub downloads; None: the hub's own.
        weights: whether weights of its own are wanted.
        fetch: whether they are fetched from the hub.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks a file.
        UserError: there is no such model.
    """
    folder = Path(rest).expanduser()
    if folder.is_dir():
        found = folder_files("timm", folder, _CONFIG, _WEIGHTS, wanted=weights)
    elif rest.endswith(".safetensors"):
        architecture, _, path = rest.partition("/")
        found = weight_file("timm", architecture, Path(path), _registered(architecture), wanted=weights)
    elif "/" in rest:
        return hub_files(
            f"timm:{rest}", rest, _CONFIG, _WEIGHTS, revision=revision, cache_dir=cache_dir, fetch=weights and fetch
        )
    else:
        config = _registered(rest)
        if not weights:
            return LibraryFiles(f"timm:{rest}", f"timm-{config['architecture']}", config, None)
        repository = config["pretrained_cfg"].get("hf_hub_id")
        if not repository:
            raise UserError(f"timm has no weights of {rest} on the hub: name one with a tag, a folder, or a file")
        named = f"timm:{rest}" if "." in rest else f"timm:{rest}.{config['pretrained_cfg'].get('tag', '')}".rstrip(".")
        return hub_files(
            named, repository, _CONFIG, _WEIGHTS, revision=revision, cache_dir=cache_dir, fetch=fetch
        )  # fmt: skip
    check_revision(found, revision)
    return found


def build(files: LibraryFiles) -> nn.Module:
    """The model with new weights.

    Raises:
        UserError: timm knows no such architecture, or its configuration gives no model.
    """
    return _create(files, None)


def load(files: LibraryFiles) -> nn.Module:
    """The model with the weights of its file; timm compares their names and shapes with the model's."""
    return _create(files, files.weights)


def image_processor(files: LibraryFiles) -> dict[str, Any]:
    """Timm's preparation for evaluation as an image processor of transformers.

    Raises:
        UserError: timm pads the images, or cuts another part out.
    """
    given = _pretrained(files)
    _, height, width = given.get("input_size") or (3, 224, 224)
    mode, share = given.get("crop_mode") or "center", given.get("crop_pct") or 0.875
    if mode not in ("center", "squash") or (mode == "center" and height != width):
        raise UserError(
            f"{files.name} prepares images by {mode} to {height} x {width}: choose a model with center or squash"
        )
    # As timm's: the side before the crop is rounded down, and a squashed image is cut at the same share.
    if mode == "squash" and share != 1.0:
        raise UserError(f"{files.name} squashes images and cuts {share} of them out: choose another model")
    return processor(
        size=(height, width),
        scale_to=None if mode == "squash" else math.floor(height / share),
        mean=given.get("mean") or (0.485, 0.456, 0.406),
        std=given.get("std") or (0.229, 0.224, 0.225),
        interpolation=given.get("interpolation") or "bicubic",
        name=files.name,
    )


def family(model: nn.Module) -> Family:
    """Where the blocks of a model lie.

    Raises:
        UserError: it has none, or they are of a class that is not supported.
    """
    for kind in type(model).__mro__:
        if kind.__name__ in TIMM:
            return TIMM[kind.__name__]
    raise UserError(
        f"timm's {type(model).__name__} has no blocks that are supported: choose a model of {', '.join(TIMM)}"
    )


def tokens(model: nn.Module) -> HookShape:
    """What tells the patches of the residual stream from the tokens before them."""
    given: Any = model
    if family(model).is_staged:
        return HookShape(width=0, n_patches=0)
    return HookShape(
        width=int(given.embed_dim),
        n_patches=int(given.patch_embed.num_patches),
        n_prefix_tokens=int(given.num_prefix_tokens),
        has_class_token=getattr(given, "cls_token", None) is not None,
        n_registers=int(getattr(given, "num_reg_tokens", 0)),
    )


def _registered(named: str) -> dict[str, Any]:
    """The configuration that timm itself has of an architecture, with or without the tag of some weights."""
    architecture = named.partition(".")[0]
    found = timm.get_pretrained_cfg(named) if timm.is_model(architecture) else None
    if found is None:
        near = near_names(named, [*timm.list_models(), *timm.list_pretrained()])
        listed = f": near ones are {', '.join(near)}" if near else ": `timm.list_models()` lists them"
        raise UserError(f"timm {timm.__version__} has no model {named}{listed}")
    kept = {key: value for key, value in dataclasses.asdict(found).items() if value is not None and key != "state_dict"}
    return {"architecture": architecture, "model_args": {}, "pretrained_cfg": kept}


def _pretrained(files: LibraryFiles) -> dict[str, Any]:
    """Files of before timm 0.9 have it at the top."""
    given = dict(files.config.get("pretrained_cfg") or files.config)
    if "num_classes" in files.config:
        given["num_classes"] = files.config["num_classes"]
    return given


def _create(files: LibraryFiles, weights: Path | None) -> nn.Module:
    architecture = files.config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise UserError(f"{files.name}: its {_CONFIG} names no architecture of timm {timm.__version__}")
    fields = {field.name for field in dataclasses.fields(PretrainedCfg)}
    given = {key: value for key, value in _pretrained(files).items() if key in fields}
    # Only the file that was found is read, whatever else the configuration names.
    given |= dict.fromkeys(("url", "hf_hub_id", "hf_hub_filename", "source", "state_dict"))
    given |= {"custom_load": False, "file": None if weights is None else str(weights)}
    arguments = dict(files.config.get("model_args") or {})
    arguments.setdefault("num_classes", given.get("num_classes", 0))
    try:
        model: nn.Module = timm.create_model(
            architecture, pretrained=weights is not None, pretrained_cfg=given, **arguments
        )
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        what = "cannot be built" if weights is None else "cannot be loaded: the weights are damaged or of another model"
        raise UserError(f"{files.name} {what} ({reason})") from error
    return model
