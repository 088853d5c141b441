"""How similar the directions of a dictionary are: the greatest cosine of each with any other one."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import betainc
from torch import Tensor

from hsae.sae.rows.random_streams import COHERENCE_STREAM, generator

MOST_DIRECTIONS = 8_192
_BLOCK = 1_024
_STEPS = 20_001


@dataclass(frozen=True, slots=True)
class DecoderCoherence:
    """The greatest absolute cosine of a direction with another one.

    Attributes:
        mean: mean over the directions; over 8,192 of them, drawn with the seed, where there are more (each is compared
            with all others).
        max: the greatest over the same directions: the coherence (mutual incoherence) of compressed sensing.
        random: what `mean` is expected to be for random directions, as many and as long: the null.
    """

    mean: float
    max: float
    random: float


@torch.no_grad()
def decoder_coherence(decoder: Float[Tensor, "n_latents d_model"], seed: int) -> DecoderCoherence | None:
    """Measure a decoder of any row lengths; a direction of length 0 has cosine 0 with all. None: it has one direction.

    Memory: 1,024 times the number of directions.
    """
    n_latents, d_model = decoder.shape
    if n_latents < 2:
        return None
    unit = torch.nn.functional.normalize(decoder.detach().float(), dim=1)
    chosen = np.arange(n_latents)
    if n_latents > MOST_DIRECTIONS:
        chosen = np.sort(generator(seed, COHERENCE_STREAM).permutation(n_latents)[:MOST_DIRECTIONS])
    greatest = []
    for block in torch.split(torch.from_numpy(chosen).to(unit.device), _BLOCK):
        cosines = (unit[block] @ unit.T).abs()
        cosines[torch.arange(len(block), device=unit.device), block] = 0.0
        greatest.append(cosines.amax(dim=1).to(torch.float64))
    found = torch.cat(greatest).clamp(max=1.0)
    return DecoderCoherence(float(found.mean()), float(found.max()), random_coherence(n_latents, d_model))


def random_coherence(n_latents: int, d_model: int) -> float:
    """The expected greatest absolute cosine of a direction with `n_latents - 1` others, all independent and uniform.

    The square of one cosine has the distribution Beta(1/2, (d_model - 1)/2), with the function F, so that the expected
    maximum is the integral over t from 0 to 1 of `1 - F(t^2)^(n_latents - 1)`: by the trapezoidal rule.
    """
    if d_model == 1:
        return 1.0
    t = np.linspace(0.0, 1.0, _STEPS)
    below = betainc(0.5, (d_model - 1) / 2, t**2) ** (n_latents - 1)
    return float(np.trapezoid(1.0 - below, t))
