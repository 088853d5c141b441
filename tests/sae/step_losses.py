"""The losses of a step with any weight of the L1 penalty."""

from torch import Tensor

from hsae.sae.config import initial_l0
from hsae.sae.losses import StepLosses, TrainingStep, sparse_losses
from hsae.sae.model import SparseAutoencoder


def step_losses(
    sae: SparseAutoencoder, x_scaled: Tensor, *, l1_weight: float, aux_coefficient: float, k_aux: int, dead: Tensor
) -> StepLosses:
    """What `SaeVariant.losses` gives at the step whose L1 weight is `l1_weight`."""
    at = TrainingStep(0, 1, aux_coefficient, k_aux, dead, int(dead.sum()))
    firing, l0 = sae.config.variant.firing, initial_l0(sae.config, sae.d_model)
    return sparse_losses(sae, x_scaled, at, firing=firing, l1_weight=l1_weight, initial_l0=l0)
