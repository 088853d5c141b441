"""Finds and reads the files of an SAE: in a folder, or in a repository of the Hugging Face Hub."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hsae.errors import ServiceError, UserError
from hsae.hub import TRANSPORT_ERROR
from hsae.sae.exchange.place import SaePlace

_CONFIGS = ("cfg.json", "config.json")
_WEIGHTS = ("sae_weights.safetensors", "sae.safetensors", "ae.safetensors", "model.safetensors", "weights.safetensors")
_NO_WEIGHTS = ("sparsity", "log_sparsity", "optimizer")  # safetensors files beside the weights
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".gz")
_HUB_SECONDS = 10.0


@dataclass(frozen=True)
class Checkpoint:
    """The files of one SAE.

    Attributes:
        place: what to call it in messages: the weights' file.
        weights: the file.
        config: what its config file says; empty where there is none.
    """

    place: str
    weights: Path
    config: dict[str, Any]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the file, on the CPU.

        Raises:
            UserError: it is cut off, or no safetensors file.
        """
        try:
            return load_file(self.weights)
        except (SafetensorError, ValueError) as error:
            raise UserError(
                f"{self.place} is no whole safetensors file ({error}): copy or download it again"
            ) from error


class PickleError(UserError):
    """The weights are a pickle.

    Attributes:
        config: what the config file beside them says.
        weights: the file.
    """

    def __init__(self, weights: Path, config: dict[str, Any]) -> None:
        super().__init__(f"{weights} is a pickle, and reading one can run any code")
        self.weights = weights
        self.config = config


def find_checkpoint(place: SaePlace) -> Checkpoint:
    """Find the weights and the config.

    Raises:
        PickleError: there are only weights as a pickle.
        ServiceError: the hub cannot be reached, and its cache lacks the files.
        UserError: there is no such folder or repository, or it is not clear which file is meant.
    """
    path = place.local()
    if path is not None:
        return _of_file(path) if path.is_file() else _of_folder(path)
    return _of_folder(_download(place) / place.subfolder)


def _of_folder(folder: Path) -> Checkpoint:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    found = [path for path in files if _is_weights(path.name)]
    named = [path for name in _WEIGHTS for path in found if path.name == name]
    if len(found) == 1 or named:
        return _of_file((named or found)[0])
    if found:
        raise UserError(f"{folder} has {len(found)} safetensors files: give the path of one, such as {found[0]}")
    pickles = [path for path in files if path.suffix in PICKLES]
    if pickles:
        raise PickleError(pickles[0], _config_beside(pickles[0]))
    inside = sorted({path.parent.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")})
    if inside:
        raise UserError(f"{folder} has SAEs in folders ({_some(inside)}): choose one with --subfolder")
    raise UserError(
        f"{folder} has no safetensors file: give the folder that holds the weights and the config of an SAE"
    )


def _of_file(path: Path) -> Checkpoint:
    config = _config_beside(path)
    if path.suffix != ".safetensors":
        if path.suffix in PICKLES:
            raise PickleError(path, config)
        raise UserError(f"{path} is no safetensors file: give a folder with the weights and the config of an SAE")
    return Checkpoint(str(path), path, config)


def _config_beside(weights: Path) -> dict[str, Any]:
    """The first config file in the folder of the weights; empty if there is none."""
    for name in (*_CONFIGS, f"{weights.stem}.json"):
        path = weights.parent / name
        if path.is_file():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:  # bad UTF-8, too
                raise UserError(f"{path} is no JSON ({error}): copy or download it again") from error
            if not isinstance(content, dict):
                raise UserError(f"{path} holds no settings: give the config that was saved with the weights")
            return content
    return {}


def _download(place: SaePlace) -> Path:
    """The snapshot of a repository that has the files of one SAE alone."""
    options: dict[str, Any] = {"revision": place.revision, "cache_dir": place.cache_dir}
    where = f"{place.source}{'' if place.revision is None else f' at {place.revision}'}"
    try:
        try:
            # One question without a second try: the listing of a repository asks for half a minute.
            about = huggingface_hub.HfApi().model_info(place.source, revision=place.revision, timeout=_HUB_SECONDS)
        except (errors.OfflineModeIsEnabled, OSError, TRANSPORT_ERROR) as error:
            if isinstance(error, errors.HfHubHTTPError):
                raise
            return Path(huggingface_hub.snapshot_download(place.source, local_files_only=True, **options))
        names = [file.rfilename for file in about.siblings or ()]
        return Path(huggingface_hub.snapshot_download(place.source, allow_patterns=_needed(names, place), **options))
    except errors.GatedRepoError as error:
        raise UserError(
            f"{where} needs a consent: accept its terms on the hub, and log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"there is no folder {place.source}, and no such repository on the hub (or it is private: `hf auth login`)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{place.source} has no revision {place.revision}: correct --revision") from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, TRANSPORT_ERROR, OSError) as error:
        raise ServiceError(
            f"{where} is no folder here and not in the cache, and the hub {huggingface_hub.constants.ENDPOINT} cannot"
            " be reached: check the network (HF_ENDPOINT names a mirror), or download it elsewhere and give its folder"
        ) from error


def _needed(names: list[str], place: SaePlace) -> list[str]:
    """The weights and JSON files of one folder of a repository."""
    folder = place.subfolder.strip("/")
    prefix = f"{folder}/" if folder else ""
    direct = [name for name in names if name.startswith(prefix) and "/" not in name[len(prefix) :]]
    weights = [name for name in direct if _is_weights(name.rsplit("/", 1)[-1])]
    if weights:
        return weights + [name for name in direct if name.endswith(".json")]
    pickles = [name for name in direct if name.endswith(PICKLES)]
    if pickles:
        raise UserError(
            f"{place.source} has only a pickle ({pickles[0]}), and reading one can run any code: download it,"
            " convert it to safetensors where you trust it (docs/exchange.md), and give the folder"
        )
    inside = sorted({name.rsplit("/", 1)[0] for name in names if _is_weights(name.rsplit("/", 1)[-1])})
    if inside:
        raise UserError(f"{place.source} has SAEs in folders ({_some(inside)}): choose one with --subfolder")
    raise UserError(f"{place.source} has no safetensors file{f' in {folder}' if folder else ''}: it holds no SAE")


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors") and name.removesuffix(".safetensors") not in _NO_WEIGHTS


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
