"""Vision towers of open_clip: `open_clip:ARCHITECTURE/PRETRAINED`, where PRETRAINED is a tag or a safetensors file.

A folder that open_clip saved and a hub repository are read, too: `open_clip:FOLDER`, `open_clip:OWNER/REPOSITORY`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import _build_vision_tower
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hsae.backbones.hooks.family import Embedding, Family
from hsae.backbones.hooks.places import near_names
from hsae.backbones.loading import timm_models
from hsae.backbones.loading.library_families import OPEN_CLIP
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

PACKAGES: tuple[str, ...] = ("torch", "open_clip_torch", "timm")
_CONFIG = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "model.safetensors")
_VISUAL = "visual."


def find(rest: str, *, revision: str | None, cache_dir: Path | None, weights: bool, fetch: bool) -> LibraryFiles:
    """The files of a model; arguments and errors as in `timm_models.find`."""
    folder = Path(rest).expanduser()
    architecture, _, pretrained = rest.partition("/")
    config = open_clip.get_model_config(architecture)
    if folder.is_dir():
        found = folder_files("open_clip", folder, _CONFIG, _WEIGHTS, wanted=weights)
    elif config is not None and pretrained.endswith(".safetensors"):
        found = weight_file(
            "open_clip", architecture, Path(pretrained), {"model_cfg": config, "preprocess_cfg": {}}, wanted=weights
        )
    elif config is not None:
        return _tagged(architecture, pretrained, config, revision, cache_dir, weights=weights, fetch=fetch)
    elif "/" in rest and pretrained not in {tag for _, tag in open_clip.list_pretrained()}:
        return hub_files(
            f"open_clip:{rest}",
            rest,
            _CONFIG,
            _WEIGHTS,
            revision=revision,
            cache_dir=cache_dir,
            fetch=weights and fetch,
        )
    else:
        near = near_names(architecture, open_clip.list_models())
        listed = f": near ones are {', '.join(near)}" if near else ": `open_clip.list_models()` lists them"
        raise UserError(f"open_clip {open_clip.__version__} has no model {architecture}{listed}")
    check_revision(found, revision)
    return found


def _tagged(
    architecture: str,
    tag: str,
    config: dict[str, Any],
    revision: str | None,
    cache_dir: Path | None,
    *,
    weights: bool,
    fetch: bool,
) -> LibraryFiles:
    given = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    name = f"open_clip:{architecture}" + (f"/{tag}" if tag else "")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if (tag or weights) and not given:
        said = f"no weights {tag}" if tag else "several weights"
        raise UserError(
            f"open_clip's {architecture} has {said}: choose one of {', '.join(tags)}, as {architecture}/TAG"
        )
    if given and bool(given.get("quick_gelu", False)) != bool(config.get("quick_gelu", False)):
        other = f"{architecture}-quickgelu" if given.get("quick_gelu") else architecture.removesuffix("-quickgelu")
        raise UserError(
            f"the weights {tag} were trained with another activation than {architecture} has: take {other}/{tag}"
        )
    known = {"size", "mean", "std", "interpolation", "resize_mode"}
    preprocess = {key: value for key, value in given.items() if key in known}
    content = {"model_cfg": config, "preprocess_cfg": preprocess}
    if not weights:
        return LibraryFiles(name, f"open_clip-{architecture}", content, None)
    repository, _, file = str(given.get("hf_hub") or "").rpartition("/")
    if not repository:
        raise UserError(
            f"open_clip has the weights {tag} of {architecture} as a pickle alone, which is not read: choose another of"
            f" {', '.join(tags)}, or give a safetensors file ({architecture}/FILE.safetensors)"
        )
    files = (file,) if file.endswith(".safetensors") else _WEIGHTS
    found = hub_files(name, repository, _CONFIG, files, revision=revision, cache_dir=cache_dir, fetch=fetch)
    return dataclasses.replace(found, config=content)


def build(files: LibraryFiles) -> nn.Module:
    """The vision tower with new weights; the text tower is not built.

    Raises:
        UserError: the configuration gives no tower.
    """
    config = files.config.get("model_cfg")
    if not isinstance(config, Mapping) or not isinstance(config.get("vision_cfg"), Mapping):
        raise UserError(f"{files.name}: its configuration has no vision_cfg, so it is no model of open_clip")
    vision = dict(config["vision_cfg"]) | {"timm_model_pretrained": False}
    try:
        tower: nn.Module = _build_vision_tower(config["embed_dim"], vision, bool(config.get("quick_gelu", False)))
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise UserError(f"{files.name} cannot be built ({' '.join(str(error).split())[:200]})") from error
    return tower


def load(files: LibraryFiles) -> nn.Module:
    """The vision tower with the weights of its file.

    Raises:
        UserError: they are damaged, incomplete or of another model.
    """
    model = build(files)
    found: dict[str, Tensor] = {}
    try:
        with safe_open(files.weights, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 -- it is no mapping
                if name.startswith(_VISUAL):
                    found[name.removeprefix(_VISUAL)] = file.get_tensor(name)
        model.load_state_dict(found, strict=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{files.name} cannot be loaded: the weights are damaged or of another model ({reason})"
        ) from error
    return model


def image_processor(files: LibraryFiles) -> dict[str, Any]:
    """open_clip's preparation for evaluation as an image processor of transformers.

    Raises:
        UserError: open_clip pads the images.
    """
    given = dict(files.config.get("preprocess_cfg") or {})
    size = files.config["model_cfg"]["vision_cfg"].get("image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    mode = given.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash") or (mode == "shortest" and height != width):
        raise UserError(
            f"{files.name} prepares images by {mode} to {height} x {width}: choose a model with shortest or squash"
        )
    return processor(
        size=(height, width),
        scale_to=None if mode == "squash" else height,
        mean=given.get("mean") or (0.48145466, 0.4578275, 0.40821073),
        std=given.get("std") or (0.26862954, 0.26130258, 0.27577711),
        interpolation=given.get("interpolation") or "bicubic",
        name=files.name,
    )


def family(model: nn.Module) -> Family:
    """Where the blocks of a tower lie.

    Raises:
        UserError: it has none, as a ResNet.
    """
    if type(model).__name__ == "VisionTransformer":
        return OPEN_CLIP
    if type(model).__name__ == "TimmModel":
        inner = timm_models.family(model.get_submodule("trunk"))
        return dataclasses.replace(inner, blocks=f"trunk.{inner.blocks}", embedding=Embedding(""))
    raise UserError(f"open_clip's {type(model).__name__} has no blocks: choose a vision transformer, such as ViT-B-32")


def tokens(model: nn.Module) -> HookShape:
    """What tells the patches of the residual stream from the tokens before them."""
    given: Any = model
    if type(model).__name__ == "TimmModel":
        return timm_models.tokens(model.get_submodule("trunk"))
    rows, columns = given.grid_size
    return HookShape(
        width=int(given.class_embedding.shape[0]),
        n_patches=int(rows * columns),
        n_prefix_tokens=1,
        has_class_token=True,
    )
