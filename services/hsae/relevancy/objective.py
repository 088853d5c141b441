"""What a map explains: one number per image, a function of the layer's activations."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from hsae.backbones.spec import Tokens
from hsae.sae.model import SparseAutoencoder


class Objective(ABC):
    """One number per image of a batch. Rows of a batch are independent of each other.

    Attributes:
        tokens: the tokens that it reads: the class token, the patches' mean, or every patch (then it is the greatest
            number of an image's patches).
    """

    tokens: Tokens

    @abstractmethod
    def activations(self, x: Float[Tensor, "batch n d_model"]) -> Float[Tensor, "batch n"]:
        """The number of every token; 0 where nothing fires."""

    def differentiable(self, x: Float[Tensor, "batch n d_model"]) -> Float[Tensor, "batch n"]:
        """What gradients are taken of; the same number wherever that has a gradient."""
        return self.activations(x)


@dataclass(frozen=True, slots=True)
class LatentObjective(Objective):
    """The activation of one latent for each image.

    Attributes:
        sae: the SAE, on the device of the activations.
        latents: int64[n], each image's latent.
        tokens: the tokens that the SAE was trained on.
    """

    sae: SparseAutoencoder
    latents: Int64[Tensor, "n"]
    tokens: Tokens

    def activations(self, x: Float[Tensor, "batch n d_model"]) -> Float[Tensor, "batch n"]:
        """The latent's activation, as the SAE encodes the token."""
        return self._own(self.sae.encode(x.flatten(0, 1)), x.shape[1])

    def differentiable(self, x: Float[Tensor, "batch n d_model"]) -> Float[Tensor, "batch n"]:
        """The latent's activation where it is above 0, elsewhere its pre-activation.

        Where a latent is silent its activation is flat (ReLU, or not among the k largest), and no gradient would say
        what it lacks.
        """
        z = self.activations(x)
        pre = self.sae.pre_activations(self.sae.scale_inputs(x.flatten(0, 1)))
        return torch.where(z > 0, z, self._own(pre, x.shape[1]))

    def _own(self, values: Float[Tensor, "all n_latents"], n_tokens: int) -> Float[Tensor, "batch n"]:
        each = values.view(len(self.latents), n_tokens, -1)
        index = self.latents.view(-1, 1, 1).expand(-1, n_tokens, 1)
        return each.gather(2, index).squeeze(2)
