"""Writes an SAE for another package, or in our own format; also to the Hugging Face Hub."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors
from safetensors.torch import save
from torch import Tensor

from hsae.backbones.hooks.names import RESIDUAL
from hsae.errors import ServiceError, UserError
from hsae.hub import TRANSPORT_ERROR
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.foreign import unfold
from hsae.sae.exchange.formats import FORMATS
from hsae.sae.exchange.formats.format import WrittenFiles
from hsae.sae.exchange.hook_points import TrainedAt, hook_point_of
from hsae.sae.exchange.native import NATIVE, write_native

WRITTEN_FORMATS = (NATIVE, "saelens", "dictionary_learning", "sparsify")
"""What SAEs can be written as."""


def written_files(
    config: SaeConfig, tensors: Mapping[str, Tensor], trained_at: TrainedAt, format_name: str = NATIVE
) -> WrittenFiles:
    """The files of an SAE in a format.

    Args:
        config: of the SAE.
        tensors: as `SparseAutoencoder.to_tensors` returns them.
        trained_at: where it was trained, as far as is known.
        format_name: one of `WRITTEN_FORMATS`.

    Raises:
        UserError: there is no such format, or it has no SAE of this kind.
    """
    if format_name not in WRITTEN_FORMATS:
        raise UserError(f"SAEs are not written as {format_name}: choose from {', '.join(WRITTEN_FORMATS)}")
    if trained_at.hook_point is None and trained_at.layer is not None:
        trained_at = trained_at._replace(hook_point=hook_point_of(trained_at.layer, trained_at.hook or RESIDUAL))
    if format_name == NATIVE:
        return write_native(config, tensors, trained_at)
    return FORMATS[format_name].write(unfold(config.kind, config.variant.stated_settings(), tensors), trained_at)


def write_folder(files: WrittenFiles, folder: Path) -> Path:
    """Write both files; each is whole or not there at all, and the config comes last.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        contiguous = {name: tensor.contiguous() for name, tensor in files.tensors.items()}
        _write(folder / files.weights_name, save(contiguous))
        _write(folder / files.config_name, json.dumps(files.config, indent=2, sort_keys=True).encode() + b"\n")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): choose another folder") from error
    return folder


def upload(files: WrittenFiles, repo_id: str, *, private: bool = False, revision: str | None = None) -> str:
    """Upload both files to a model repository of the hub, which is made if it is missing; returns the commit's address.

    Raises:
        ServiceError: the hub cannot be reached.
        UserError: the hub refuses.
    """
    api = huggingface_hub.HfApi()
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_folder(files, Path(folder))
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message="Add a sparse autoencoder"
            )
    except errors.HFValidationError as error:
        raise UserError(f"{repo_id} is no name of a repository: give owner/name") from error
    except errors.HfHubHTTPError as error:
        said = " ".join(str(error.server_message or error).split())
        raise UserError(
            f"the hub refuses {repo_id} ({said}): log in with `hf auth login`, or choose another"
        ) from error
    except (OSError, TRANSPORT_ERROR) as error:
        raise ServiceError(f"the hub cannot be reached for {repo_id}: try again, or save to a folder") from error
    return str(commit)


def _write(path: Path, content: bytes) -> None:
    """Write next to the place and move, so that no reader ever sees a half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
