"""The sparse autoencoder: raw activations in, non-negative latents, raw activations out.

x_scaled = input_scale * x
pre      = encoder_weight @ (x_scaled - pre_bias) + encoder_bias
z        = relu(pre)                                  kind "relu"
z        = relu(pre) where pre is among the k largest kind "topk" (Gao et al. 2024, arXiv 2406.04093, section 2.3)
x_hat    = (decoder_weight.T @ z + pre_bias) / input_scale
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hsae.errors import UserError
from hsae.sae.config import SaeConfig, check_config, n_latents_of
from hsae.sae.sparse_kernels import top_k_entries


class SparseAutoencoder(nn.Module):
    """State (all float32, the names are those of `to_tensors`):

    encoder_weight [n_latents, d_model], encoder_bias [n_latents]
    decoder_weight [n_latents, d_model]: row j is the unit direction of latent j
    pre_bias       [d_model], in scaled space
    input_scale    [], scaled space = input_scale * raw activations

    A new one is all zeros: see `initialisation.initialise`.
    """

    input_scale: Tensor

    def __init__(self, config: SaeConfig, d_model: int) -> None:
        """Raises UserError when the config does not fit d_model."""
        super().__init__()
        check_config(config, d_model)
        self.config = config
        self.d_model = d_model
        self.n_latents = n_latents_of(config, d_model)
        self.encoder_weight = nn.Parameter(torch.zeros(self.n_latents, d_model))
        self.encoder_bias = nn.Parameter(torch.zeros(self.n_latents))
        self.decoder_weight = nn.Parameter(torch.zeros(self.n_latents, d_model))
        self.pre_bias = nn.Parameter(torch.zeros(d_model))
        self.register_buffer("input_scale", torch.ones(()))

    def scale_inputs(self, x: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """Raw activations of any floating type in scaled space, float32."""
        return x.to(torch.float32) * self.input_scale

    def pre_activations(self, x_scaled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """The encoder before its nonlinearity."""
        return F.linear(x_scaled - self.pre_bias, self.encoder_weight, self.encoder_bias)

    def encode(self, x: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """Latents z >= 0 (in scaled space, float32) of raw activations.

        "topk": at most k of a row are positive; among equal values the lower latent number is kept.
        """
        pre = self.pre_activations(self.scale_inputs(x))
        if self.config.kind == "relu":
            return F.relu(pre)
        entries = top_k_entries(pre, self.config.k)
        return entries.to_dense(pre[entries.rows, entries.latents])

    def decode(self, z: Float[Tensor, "batch n_latents"]) -> Float[Tensor, "batch d_model"]:
        """Raw activations (float32) of latents."""
        return (z @ self.decoder_weight + self.pre_bias) / self.input_scale

    def forward(self, x: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """The reconstruction of raw activations."""
        return self.decode(self.encode(x))

    def to_tensors(self) -> dict[str, Tensor]:
        """The state as contiguous CPU tensors of their own, ready for safetensors; `config` belongs with it."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.state_dict().items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: SaeConfig) -> "SparseAutoencoder":
        """The SAE of stored tensors, on the CPU. Raises UserError when they are not those of such an SAE."""
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
