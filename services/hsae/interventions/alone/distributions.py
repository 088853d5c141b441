"""What a readout says of single images before and after an edit, as probabilities."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from scipy.special import softmax
from torch import Tensor

from hsae.interventions.passes import Intervention, LaterBlocks, outcomes
from hsae.interventions.readouts import LinearReadout


@dataclass(frozen=True, slots=True, eq=False)
class MovedDistributions:
    """The probabilities of the classes before and after an edit."""

    before: Float64[np.ndarray, "batch n_classes"]
    after: Float64[np.ndarray, "batch n_classes"]


def moved_distributions(
    blocks: LaterBlocks, stream: Tensor, intervention: Intervention, last: int, readout: LinearReadout
) -> MovedDistributions:
    """Run one intervention on a batch, from the stream after its first layer.

    Args:
        blocks: what follows.
        stream: all tokens after the first layer of the intervention.
        intervention: the edit.
        last: the layer that the readout sees.
        readout: gives logits.
    """
    start = intervention.first_layer
    with torch.no_grad():
        plain = blocks.resume(stream, start, last) if last > start else stream
        (edited,) = outcomes(blocks, start, stream, [intervention], last)
        before, after = (readout.logits(each).cpu().numpy() for each in (plain, edited))
    return MovedDistributions(softmax(before, axis=1), softmax(after, axis=1))
