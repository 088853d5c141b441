"""Dead latents set anew from the rows that are reconstructed worst: an alternative to the auxiliary loss.

Bricken et al. 2023, "Towards Monosemanticity", appendix "Neuron Resampling". At four steps of the training, for every
latent that counts as dead:

- a row is drawn with a probability in proportion to the square of its loss `|x - x_hat|^2`;
- the direction becomes that row at unit norm; the encoder the same vector at 0.2 times the mean norm of the living
  latents' encoders; the encoder's bias 0; Adam's moments of these entries 0.

The steps are those of the paper as shares of its training: 1/8, 1/4, 3/8 and 1/2. Ours: rows are centred by `pre_bias`;
they are drawn without replacement from at most 8,192 training rows, other ones every time, instead of 819,200; latents
without a row wait for the next time; a latent is dead after `dead_after_steps`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hsae.sae.rows.random_streams import RESAMPLING_STREAM, generator
from hsae.sae.training.checkpoint import TrainingState

SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2)
N_ROWS = 8_192
_ENCODER_SHARE = 0.2
_ROWS_AT_ONCE = 1_024


def is_due(step: int, n_steps: int) -> bool:
    """Whether dead latents are set anew after so many steps."""
    return step > 0 and step in {round(share * n_steps) for share in SHARES}


def drawn_rows(n_train_rows: int, seed: int, step: int) -> Int[Tensor, "n"]:
    """Positions among the training rows, ascending, from which directions may be taken after a step."""
    order = generator(seed, RESAMPLING_STREAM + step).permutation(n_train_rows)[:N_ROWS]
    return torch.from_numpy(order).sort().values


@torch.no_grad()
def resample(
    state: TrainingState, seed: int, dead_after_steps: int, rows: Callable[[], Float[Tensor, "n d_model"]]
) -> int:
    """Set dead latents of a state anew; how many.

    Args:
        state: a training after a step for which `is_due` says yes.
        seed: seed of the training.
        dead_after_steps: a latent is dead after so many silent steps.
        rows: reads the raw activations that directions may be taken from, on the SAE's device.
    """
    sae = state.sae
    dead = torch.nonzero(state.silent_steps >= dead_after_steps).flatten()
    if dead.shape[0] == 0:
        return 0
    x = rows()
    x_scaled = sae.scale_inputs(x)
    losses = torch.cat([(part - sae(part)).square().sum(dim=1) for part in torch.split(x, _ROWS_AT_ONCE)])
    chosen = _drawn(losses, dead.shape[0], seed, state.step).to(dead.device)
    latents = dead[: chosen.shape[0]]
    directions = x_scaled[chosen] - sae.pre_bias
    directions /= directions.norm(dim=1, keepdim=True).clamp_min(1e-12)
    living = state.silent_steps < dead_after_steps
    norms = sae.encoder_weight.norm(dim=1)
    norm = norms[living].mean() if bool(living.any()) else norms.mean()
    sae.decoder_weight[latents] = directions
    sae.encoder_weight[latents] = _ENCODER_SHARE * norm * directions
    sae.encoder_bias[latents] = 0.0
    sae.config.variant.resampled(sae, latents)
    for name, parameter in sae.named_parameters():
        if name != "pre_bias":
            for moment in ("exp_avg", "exp_avg_sq"):
                state.optimiser.state[parameter][moment][latents] = 0.0
    state.silent_steps[latents] = 0
    return latents.shape[0]


def _drawn(losses: Float[Tensor, "n"], n_wanted: int, seed: int, step: int) -> Int[Tensor, "m"]:
    """Numbers of rows, without replacement, each with a probability in proportion to its squared loss."""
    weights = losses.to("cpu", torch.float64).square().numpy()
    n_drawn = min(n_wanted, int((weights > 0).sum()))
    random = generator(seed, RESAMPLING_STREAM + step)
    random.permutation(1)  # not the numbers that drew the rows
    if n_drawn == 0:
        return torch.empty(0, dtype=torch.int64)
    return torch.from_numpy(random.choice(weights.shape[0], n_drawn, replace=False, p=weights / weights.sum()))
