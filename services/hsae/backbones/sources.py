"""Find the files of a model: in a local folder, or as a commit of a hub repository in the hub's cache."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors

from hsae.errors import ServiceError, UserError
from hsae.hub import TRANSPORT_ERROR, is_cached

CONFIG_FILE = "config.json"
# The first existing file counts. transformers 5 writes the second one for image-and-text models.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
WEIGHTS_FILE = "model.safetensors"
WEIGHTS_INDEX_FILE = "model.safetensors.index.json"

_LOCAL_REVISION = "sha256-"
_TOWER = ".vision_tower."
_GIVE_LOCAL = "give a local folder (--model PATH, or HSAE_MODEL)"


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files: `name` (a hub id, or an absolute path), `revision`, and the `folder` that holds them."""

    name: str
    revision: str
    folder: Path


def find(
    name: str,
    *,
    revision: str | None,
    cache_dir: Path | None,
    accept: Callable[[Path], object] = lambda config: None,
    weights: bool = True,
) -> Source:
    """Find the configuration and preprocessor files of a model.

    A folder takes precedence over a hub model of the same name. The revision of a folder is the sha256 sum over its
    configuration, weights and preprocessor files.

    Args:
        name: folder or hub id.
        revision: the revision that must be there; None: any folder, or the main branch on the hub.
        cache_dir: cache of hub downloads; None: the hub's own.
        accept: called with the configuration file before other files are searched; may raise.
        weights: whether a folder must have weights, which are a part of its revision then.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks the model.
        UserError: there is no such model, revision or access; or a folder lacks a file.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _local(path.resolve(), revision, accept, weights=weights)
    if path.exists():
        raise UserError(f"{name} is a file: give the folder that holds the model's {CONFIG_FILE}")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise UserError(f"there is no folder {name}: correct the path, or give a hub id such as facebook/dinov2-base")
    config = hub_file(name, CONFIG_FILE, revision=revision, cache_dir=cache_dir)
    accept(config)
    commit = config.parent.name
    if first_hub_file(name, PROCESSOR_FILES, commit=commit, cache_dir=cache_dir) is None:
        raise _no_processor(f"{name} at revision {commit}")
    return Source(name, commit, config.parent)


def with_weights(
    name: str, revision: str, *, cache_dir: Path | None, wanted: Callable[[str], bool] = lambda tensor: True
) -> Path:
    """The folder that `find` returns, with the weights; they are downloaded if necessary.

    Of weights in several files only those are downloaded that have a tensor whose name is `wanted`.
    """
    folder = find(name, revision=revision, cache_dir=cache_dir).folder
    if revision.startswith(_LOCAL_REVISION):
        return folder
    found = first_hub_file(name, (WEIGHTS_FILE, WEIGHTS_INDEX_FILE), commit=revision, cache_dir=cache_dir)
    if found is None:
        raise no_weights(f"{name} at revision {revision}")
    if found.name == WEIGHTS_INDEX_FILE:
        weight_map = read_json(found).get("weight_map")
        if not isinstance(weight_map, dict):
            raise UserError(f"{found} lists no weights: fetch the model again")
        for file in sorted({file for tensor, file in weight_map.items() if wanted(tensor)}):
            hub_file(name, file, revision=revision, cache_dir=cache_dir)
    return folder


def is_of_tower(tensor: str) -> bool:
    """Whether a tensor of a language model that sees belongs to its vision tower."""
    return _TOWER in f".{tensor}"


def tower_key(tensor: str) -> str:
    """The name that such a tensor has in the tower by itself."""
    return f".{tensor}".partition(_TOWER)[2]


def description_files(folder: Path) -> list[Path]:
    """The files of a found model that say what it computes, without the weights: configuration and preprocessor."""
    return [folder / CONFIG_FILE, next(folder / file for file in PROCESSOR_FILES if (folder / file).is_file())]


def checksum(files: Sequence[Path]) -> str:
    """The sha256 over the names and contents of files, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in a model's file.

    Raises:
        UserError: the file has no JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is no JSON file ({error}): fetch the model again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: fetch the model again")
    return content


def _local(folder: Path, revision: str | None, accept: Callable[[Path], object], *, weights: bool) -> Source:
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"folder {folder} has no {CONFIG_FILE}: give a folder that save_pretrained wrote")
    accept(folder / CONFIG_FILE)
    if not any((folder / file).is_file() for file in PROCESSOR_FILES):
        raise _no_processor(f"folder {folder}")
    if weights:
        stored = list(folder.glob("*.safetensors"))
        if not stored:
            raise no_weights(f"folder {folder}")
        others = [folder / file for file in (CONFIG_FILE, *PROCESSOR_FILES, WEIGHTS_INDEX_FILE)]
        files = [*stored, *(path for path in others if path.is_file())]
    else:
        files = description_files(folder)
    actual = _LOCAL_REVISION + checksum(files)
    if revision not in (None, actual):
        raise UserError(
            f"the files in {folder} have revision {actual}, not {revision}: put the former files back, or submit anew"
        )
    return Source(str(folder), actual, folder)


def hub_file(name: str, file: str, *, revision: str | None, cache_dir: Path | None) -> Path:
    """One file of a hub repository, from the cache if possible.

    Raises:
        ServiceError: the hub cannot be reached, and its cache lacks the file.
        UserError: there is no such repository, revision or file, or no access to it.
    """
    at = f" at revision {revision}" if revision else ""
    try:
        if not is_cached(name, file, revision=revision, cache_dir=cache_dir):
            _ask_for(name, file, revision)
        return Path(huggingface_hub.hf_hub_download(name, file, revision=revision, cache_dir=cache_dir))
    except errors.HFValidationError as error:
        raise UserError(f"{name!r} is neither a folder nor a hub id such as facebook/dinov2-base") from error
    except errors.GatedRepoError as error:
        raise UserError(
            f"{name} is a gated model: ask for access at {huggingface_hub.constants.ENDPOINT}/{name}, "
            "then log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{name} is neither a folder nor a model on the hub: correct the name "
            "(for a private model log in with `hf auth login` or set HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{name} has no revision {revision} on the hub: correct it") from error
    except (_UnreachableError, errors.LocalEntryNotFoundError) as error:
        cache = cache_dir or huggingface_hub.constants.HF_HUB_CACHE
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            raise ServiceError(
                f"{name} is no folder, and its {file}{at} is not in the hub cache {cache} while HF_HUB_OFFLINE "
                f"is set: unset that, copy the cache of a machine that has it, or {_GIVE_LOCAL}"
            ) from error
        raise ServiceError(
            f"the hub {huggingface_hub.constants.ENDPOINT} cannot be reached, and its cache {cache} has no {file} "
            f"of {name}{at}: check the network (HF_ENDPOINT names a mirror), copy the cache of a machine that has it, "
            f"or {_GIVE_LOCAL}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"{name}{at} has no {file}, so it is no model that can be read: choose another one") from error
    except (errors.HfHubHTTPError, TRANSPORT_ERROR, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ServiceError(f"cannot fetch {file} of {name}{at} from the hub ({reason}): try again") from error


class _UnreachableError(Exception):
    """The hub does not answer."""


def _ask_for(name: str, file: str, revision: str | None) -> None:
    """Ask the hub for a file's metadata, once.

    The download of a file that is not in the cache would retry for half a minute.

    Raises:
        _UnreachableError: when the hub does not answer.
    """
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return
    url = huggingface_hub.hf_hub_url(name, file, revision=revision)
    try:
        huggingface_hub.get_hf_file_metadata(url)
    except errors.EntryNotFoundError:
        return  # the download records in the cache that the file does not exist
    except errors.HfHubHTTPError:  # the hub answers, with a refusal
        raise
    except (TRANSPORT_ERROR, OSError) as error:
        raise _UnreachableError(str(error)) from error


def first_hub_file(name: str, files: Sequence[str], *, commit: str, cache_dir: Path | None) -> Path | None:
    """The first of `files` that the repository has at `commit`; without a connection if the file is in the cache.

    None: it has none. Raises as `hub_file`.
    """
    unreachable: ServiceError | None = None
    for file in files:
        cached = huggingface_hub.try_to_load_from_cache(name, file, cache_dir=cache_dir, revision=commit)
        if isinstance(cached, str):
            return Path(cached)
        if cached is not None or unreachable is not None:  # known to be absent, or the hub is unreachable
            continue
        try:
            return hub_file(name, file, revision=commit, cache_dir=cache_dir)
        except ServiceError as error:
            unreachable = error
        except UserError as error:
            if not isinstance(error.__cause__, errors.EntryNotFoundError):
                raise
    if unreachable is not None:
        raise unreachable
    return None


def _no_processor(where: str) -> UserError:
    return UserError(
        f"{where} has no {PROCESSOR_FILES[0]}, which says how to resize and normalise an image: "
        "add the one that the model was trained with"
    )


def no_weights(where: str) -> UserError:
    """The mistake that a model has no weights that may be read."""
    return UserError(
        f"{where} has no weights in safetensors format (pickled ones are not read): "
        "convert the model with transformers' save_pretrained, or take random weights with --random-init SEED"
    )
