"""What a file format says of itself."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from hsae.errors import UserError
from hsae.sae.exchange.foreign import ForeignSae
from hsae.sae.exchange.hook_points import TrainedAt
from hsae.sae.exchange.source import Checkpoint

_SAVE = (
    "import torch, safetensors.torch as s; {tensors}; s.save_file({{k: v.contiguous() for k, v in t.items()}}, '{to}')"
)


@dataclass(frozen=True)
class WrittenFiles:
    """The content of the files of one SAE.

    Attributes:
        config_name: name of the config file.
        config: its content.
        weights_name: name of the safetensors file.
        tensors: its content.
        hint: how the package reads them, in one line.
    """

    config_name: str
    config: Mapping[str, Any]
    weights_name: str
    tensors: Mapping[str, Tensor]
    hint: str


class SaeFormat(ABC):
    """How one package stores SAEs. A new format is a new module of this package.

    Attributes:
        name: what `--format` calls it.
        title: the package's own name.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def recognises(self, config: Mapping[str, Any], names: Collection[str]) -> bool:
        """Whether files are of this format, by the config and the names of the tensors (empty: unknown)."""

    @abstractmethod
    def read(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> tuple[ForeignSae, TrainedAt]:
        """The SAE, and where it was trained.

        Raises:
            UserError: it has a setting that cannot be expressed, or lacks one.
        """

    def write(self, sae: ForeignSae, trained_at: TrainedAt) -> WrittenFiles:
        """The files of an SAE of ours.

        Raises:
            UserError: SAEs are not written in this format, or not of this kind.
        """
        raise UserError(f"SAEs are not written for {self.title}: choose hsae, saelens, dictionary_learning or sparsify")

    def tensors_of_pickle(self, weights: Path) -> str:
        """Python that makes `t`, the tensors by name, of a pickle of this package."""
        return f"t = torch.load('{weights.name}', map_location='cpu', weights_only=True)"

    def conversion(self, weights: Path) -> str:
        """The command that turns a pickle into safetensors, where the package is installed."""
        code = _SAVE.format(tensors=self.tensors_of_pickle(weights), to=f"{weights.stem}.safetensors")
        return f'python -c "{code}"'


def setting(config: Mapping[str, Any], name: str, kind: type, place: str) -> Any:
    """A setting that a config must have.

    Raises:
        UserError: it is missing or of another type.
    """
    value = config.get(name)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"the config of {place} has no {name}: give the one that was saved with the weights")
    return value


def tensor(tensors: Mapping[str, Tensor], name: str, place: str) -> Tensor:
    """A tensor that a file must have, as float32.

    Raises:
        UserError: it is missing.
    """
    found = tensors.get(name)
    if found is None:
        listed = ", ".join(sorted(tensors)) or "nothing"
        raise UserError(f"{place} has no tensor {name} (it has {listed}): it is of another format, or not an SAE")
    return found.float()


def latents_first(matrix: Tensor) -> Tensor:
    """[d_model, n_latents] as [n_latents, d_model]."""
    return matrix.T.contiguous()


def require_matrix(matrix: Tensor, name: str, place: str) -> Tensor:
    """Refuse what has not two dimensions, or no number at all.

    Raises:
        UserError: it is so.
    """
    if matrix.ndim != 2:
        raise UserError(
            f"{name} of {place} has the shape {list(matrix.shape)}, and not two dimensions: no SAE has that"
        )
    if matrix.numel() == 0:
        raise UserError(
            f"{name} of {place} has the shape {list(matrix.shape)}: an SAE without latents or dimensions cannot be"
            " imported; write the file again after its training"
        )
    return matrix


def no_such_kind(kind: str, title: str, possible: Collection[str]) -> UserError:
    """A package has no SAE that computes what a kind does."""
    return UserError(f"{title} has no SAE like a {kind} one: only {', '.join(possible)} can be written for it")
