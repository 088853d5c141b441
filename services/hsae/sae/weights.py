"""The weights of an SAE of any kind, and the linear maps that all kinds share."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SaeWeights(nn.Module):
    """Weights and linear maps. A kind may have further parameters; `initialisation.initialise` sets the values.

    Attributes:
        encoder_weight: float32[n_latents, d_model].
        encoder_bias: float32[n_latents].
        decoder_weight: float32[n_latents, d_model]; row j is the unit direction of latent j.
        pre_bias: float32[d_model], in scaled space.
        input_scale: float32[]; scaled space = input_scale * raw activations.
    """

    input_scale: Tensor

    def __init__(
        self,
        n_latents: int,
        d_model: int,
        own_parameters: Mapping[str, tuple[int, ...]],
        own_buffers: Mapping[str, tuple[int, ...]],
    ) -> None:
        """Make weights of zeros.

        Args:
            n_latents: size of the dictionary.
            d_model: width of the backbone.
            own_parameters: names and shapes of the parameters that only this kind has.
            own_buffers: names and shapes of its further tensors, which get no gradient.
        """
        super().__init__()
        self.d_model = d_model
        self.n_latents = n_latents
        self.encoder_weight = nn.Parameter(torch.zeros(n_latents, d_model))
        self.encoder_bias = nn.Parameter(torch.zeros(n_latents))
        self.decoder_weight = nn.Parameter(torch.zeros(n_latents, d_model))
        self.pre_bias = nn.Parameter(torch.zeros(d_model))
        self.register_buffer("input_scale", torch.ones(()))
        for name, shape in own_parameters.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        for name, shape in own_buffers.items():
            self.register_buffer(name, torch.zeros(shape))

    def scale_inputs(self, x: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """Raw activations of any floating type as float32 in scaled space."""
        return x.to(torch.float32) * self.input_scale

    def pre_activations(self, x_scaled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """The encoder before its nonlinearity, float32 also where autocast makes the product in bfloat16."""
        return F.linear(x_scaled - self.pre_bias, self.encoder_weight, self.encoder_bias).float()
