"""The files of a model of another library: a folder, a repository of the hub, or one file of weights."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsae.backbones.sources import checksum, first_hub_file, hub_file, no_weights, read_json
from hsae.errors import UserError


@dataclass(frozen=True, slots=True)
class LibraryFiles:
    """What a model of another library is made of.

    Attributes:
        name: with the library's prefix; folders and files are absolute.
        revision: commit hash on the hub, or "sha256-" and a checksum of the files.
        config: says how the model is built and how its images are prepared.
        weights: its safetensors file; None: not fetched, or not wanted.
    """

    name: str
    revision: str
    config: Mapping[str, Any]
    weights: Path | None


def config_checksum(config: Mapping[str, Any]) -> str:
    """The sha256 over a configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def folder_files(prefix: str, folder: Path, config: str, weights: Sequence[str], *, wanted: bool) -> LibraryFiles:
    """A local folder.

    Args:
        prefix: of the library.
        folder: the folder.
        config: name of the file with the configuration.
        weights: names of the file with the weights; the first one that exists counts, else the only safetensors file.
        wanted: whether there must be weights, which are a part of the revision then.

    Raises:
        UserError: a file is missing.
    """
    folder = folder.resolve()
    if not (folder / config).is_file():
        raise UserError(f"folder {folder} has no {config}: give a folder that {prefix} saved")
    if not wanted:
        content = read_json(folder / config)
        return LibraryFiles(f"{prefix}:{folder}", f"sha256-{config_checksum(content)}", content, None)
    named = [folder / name for name in weights if (folder / name).is_file()]
    stored = named[:1] or sorted(folder.glob("*.safetensors"))
    if not stored:
        raise no_weights(f"folder {folder}")
    if len(stored) > 1:
        raise UserError(f"folder {folder} has several files of weights: name the one to read {weights[0]}")
    revision = f"sha256-{checksum([folder / config, stored[0]])}"
    return LibraryFiles(f"{prefix}:{folder}", revision, read_json(folder / config), stored[0])


def weight_file(prefix: str, architecture: str, path: Path, config: Mapping[str, Any], *, wanted: bool) -> LibraryFiles:
    """One file of weights of an architecture that the library knows.

    Raises:
        UserError: there is no such file.
    """
    path = path.expanduser().resolve()
    if wanted and not path.is_file():
        raise UserError(f"there is no file {path}: correct the path behind {prefix}:{architecture}/")
    revision = config_checksum(config)
    if wanted:
        both = f"{revision} {checksum([path])}"
        revision = hashlib.sha256(both.encode()).hexdigest()
    return LibraryFiles(f"{prefix}:{architecture}/{path}", f"sha256-{revision}", config, path if wanted else None)


def hub_files(
    name: str, repository: str, config: str, weights: Sequence[str], *, revision: str | None, cache_dir: Path | None,
    fetch: bool,
) -> LibraryFiles:  # fmt: skip
    """A repository of the hub.

    Args:
        name: of the model with its prefix.
        repository: hub id.
        config: name of the file with the configuration.
        weights: names of the file with the weights; the first one that exists counts.
        revision: commit, branch or tag; None: the main branch.
        cache_dir: cache of hub downloads; None: the hub's own.
        fetch: whether the weights are fetched.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks a file.
        UserError: there is no such repository, revision, file or access.
    """
    described = hub_file(repository, config, revision=revision, cache_dir=cache_dir)
    commit = described.parent.name
    stored = first_hub_file(repository, weights, commit=commit, cache_dir=cache_dir) if fetch else None
    if fetch and stored is None:
        raise no_weights(f"{repository} at revision {commit}")
    return LibraryFiles(name, commit, read_json(described), stored)


def check_revision(files: LibraryFiles, revision: str | None) -> None:
    """Check that local files are those of a revision.

    Raises:
        UserError: they are not.
    """
    if revision is not None and files.revision.startswith("sha256-") and files.revision != revision:
        raise UserError(
            f"the files of {files.name} have revision {files.revision}, not {revision}: put the former files back, or"
            " submit anew"
        )


def processor(
    *, size: tuple[int, int], scale_to: int | None, mean: Sequence[float], std: Sequence[float], interpolation: str,
    name: str,
) -> dict[str, Any]:  # fmt: skip
    """An image processor of transformers that prepares images as a library does.

    Args:
        size: (height, width) of the result.
        scale_to: length to which an image's shorter side is scaled before the middle is cut out; None: the whole image
            is scaled to the size, whatever its proportions.
        mean: subtracted from each channel.
        std: then each channel is divided by it.
        interpolation: Pillow's filter, in small letters.
        name: of the model, for messages.

    Raises:
        UserError: the filter is unknown.
    """
    if interpolation not in _FILTERS:
        raise UserError(f"{name} scales images by {interpolation}, not by one of {', '.join(_FILTERS)}: choose another")
    square = {"height": size[0], "width": size[1]}
    content: dict[str, Any] = {
        "image_processor_type": "BitImageProcessor" if scale_to else "ViTImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": scale_to} if scale_to else square,
        "resample": _FILTERS[interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
    return content | ({"do_center_crop": True, "crop_size": square, "do_convert_rgb": True} if scale_to else {})


_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
