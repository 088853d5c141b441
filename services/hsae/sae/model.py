"""The sparse autoencoder: raw activations in, non-negative latents, raw activations out.

x_scaled = input_scale * x
pre      = encoder_weight @ (x_scaled - pre_bias) + encoder_bias
z        = what the kind makes of pre: see `hsae.sae.variants`
x_hat    = (decoder_weight.T @ z + pre_bias) / input_scale
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.config import SaeConfig, check_config, n_latents_of
from hsae.sae.exchange.hook_points import TrainedAt, given_place
from hsae.sae.exchange.place import SaePlace
from hsae.sae.exchange.read import read_sae
from hsae.sae.exchange.write import upload, write_folder, written_files
from hsae.sae.weights import SaeWeights


class SparseAutoencoder(SaeWeights):
    """Weights (see `SaeWeights`; the names are those of `to_tensors`) with the config that says how to use them."""

    def __init__(self, config: SaeConfig, d_model: int) -> None:
        """Make an SAE of zeros.

        Raises:
            UserError: the config does not fit d_model.
        """
        check_config(config, d_model)
        n_latents = n_latents_of(config, d_model)
        variant = config.variant
        super().__init__(
            n_latents, d_model, variant.own_parameters(n_latents, d_model), variant.own_buffers(n_latents, d_model)
        )
        self.config = config

    def encode(self, x: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """Latents z >= 0 (in scaled space, float32) of raw activations."""
        return self.config.variant.encode(self, self.scale_inputs(x))

    def decode(self, z: Float[Tensor, "batch n_latents"]) -> Float[Tensor, "batch d_model"]:
        """Raw activations (float32) of latents."""
        return self.config.variant.decode(self, z) / self.input_scale

    def forward(self, x: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """The reconstruction of raw activations."""
        return self.decode(self.encode(x))

    def to_tensors(self) -> dict[str, Tensor]:
        """The state as contiguous CPU tensors of their own, ready for safetensors; `config` belongs with it."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.state_dict().items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: SaeConfig) -> "SparseAutoencoder":
        """The SAE of stored tensors, on the CPU.

        Args:
            tensors: as `to_tensors` returns them.
            config: how the SAE was trained.

        Raises:
            UserError: the tensors are not those of such an SAE.
        """
        pre_bias = tensors.get("pre_bias")
        if pre_bias is None or pre_bias.ndim != 1 or pre_bias.shape[0] == 0:
            raise UserError("these tensors are no SAE: pre_bias [d_model] is missing; import or train the SAE again")
        with torch.device("meta"):
            expected = cls(config, pre_bias.shape[0]).state_dict()
        if set(tensors) != set(expected):
            raise UserError(
                f"these tensors are no SAE: expected {sorted(expected)}, found {sorted(tensors)}; "
                "import or train the SAE again"
            )
        for name, blank in expected.items():
            found = tensors[name]
            if found.shape != blank.shape or found.dtype != blank.dtype:
                raise UserError(
                    f"{name} of the SAE is {found.dtype} {list(found.shape)}, but its config needs {blank.dtype} "
                    f"{list(blank.shape)}: the config is of another SAE"
                )
            if not bool(torch.isfinite(found).all()):
                raise UserError(f"{name} of the SAE holds NaN or infinity: train it again")
        if float(tensors["input_scale"]) <= 0:
            raise UserError("input_scale of the SAE must be positive: import or train it again")
        sae = cls(config, pre_bias.shape[0])
        sae.load_state_dict({name: tensor.detach().clone() for name, tensor in tensors.items()})
        return sae

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        format: str | None = None,
        subfolder: str = "",
        revision: str | None = None,
        layer: int | None = None,
        hook: str | None = None,
        cache_dir: Path | None = None,
    ) -> "SparseAutoencoder":
        """The SAE of a folder, of a safetensors file or of a repository of the Hugging Face Hub, on the CPU.

        Args:
            source: what `save_pretrained` wrote, or an SAE of another package: SAELens, dictionary_learning,
                ViT-Prisma, saev, sparsify, overcomplete or MSAE. Its `config.imported` then says what was folded.
            format: the format; None: recognised by the files.
            subfolder: the folder inside that has the SAE.
            revision: branch, tag or commit of a repository.
            layer: the 0-based layer that it is of, where its files don't say.
            hook: the hook point that it is of, as `submit --hook` takes it, where its files don't say.
            cache_dir: cache of hub downloads; None: the hub's own.

        Raises:
            ServiceError: the hub cannot be reached.
            UserError: the files cannot be read, or have something that cannot be expressed here.
        """
        place = SaePlace(str(source), subfolder, revision, cache_dir)
        found = read_sae(place, format_name=format, layer=layer, hook=hook)
        return cls.from_tensors(found.tensors, found.config)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        format: str = "hsae",
        layer: int | None = None,
        model: str | None = None,
        hook: str | None = None,
    ) -> Path:
        """Write the SAE into a folder, as safetensors and JSON; returns the folder.

        Args:
            folder: made if it is missing.
            format: `hsae`, or for another package: saelens, dictionary_learning, sparsify. There latents are in units
                of the activations, those of here divided by `input_scale`.
            layer: the 0-based layer that it was trained on, for the files.
            model: the model that it was trained on, for the files.
            hook: the hook point that it was trained on, as `submit --hook` takes it, for the files; None: the residual
                stream, or what the files of an imported one said.

        Raises:
            UserError: the folder cannot be written, the package has no SAE of this kind, or the hook point is of
                another layer.
        """
        files = written_files(self.config, self.to_tensors(), self._trained_at(layer, model, hook), format)
        return write_folder(files, Path(folder).expanduser())

    def push_to_hub(
        self,
        repo_id: str,
        *,
        format: str = "hsae",
        layer: int | None = None,
        model: str | None = None,
        hook: str | None = None,
        private: bool = False,
    ) -> str:
        """Upload what `save_pretrained` writes to a repository of the Hugging Face Hub; returns the commit's address.

        Raises:
            ServiceError: the hub cannot be reached.
            UserError: the hub refuses, the package has no SAE of this kind, or the hook point is of another layer.
        """
        files = written_files(self.config, self.to_tensors(), self._trained_at(layer, model, hook), format)
        return upload(files, repo_id, private=private)

    def _trained_at(self, layer: int | None, model: str | None, hook: str | None) -> TrainedAt:
        if hook is not None:
            hook, layer = given_place(hook, layer)
        origin = self.config.imported
        if origin is None:
            return TrainedAt(layer=layer, model=model, hook=hook)
        is_its_own = layer in (None, origin.layer) and hook in (None, origin.hook)
        return TrainedAt(
            hook_point=origin.hook_point if is_its_own else None,
            layer=origin.layer if layer is None else layer,
            model=model or origin.model,
            tokens=origin.tokens,
            hook=hook or origin.hook,
        )
