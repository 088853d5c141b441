"""How long a training runs, and when a latent counts as dead: fixed rules for what a config leaves open."""

from typing import NamedTuple

from hsae.errors import UserError
from hsae.sae.config import SaeConfig

_SHORTEST_TRAINING = 1_000
_LONGEST_TRAINING = 20_000
_EPOCHS = 50
_SMALLEST_BATCH = 64
_LARGEST_BATCH = 4_096
_BATCHES_PER_EPOCH = 16
_DEAD_EPOCHS = 2
_DEAD_SHARE_OF_TRAINING = 20


class Schedule(NamedTuple):
    """How long one training runs."""

    batch_size: int
    n_steps: int


def resolve_schedule(config: SaeConfig, n_train_rows: int) -> Schedule:
    """The schedule for a number of training rows; what the config leaves open follows a fixed rule.

    - batch_size: the largest power of two that is at most a sixteenth of the rows, within 64..4096, and never more than
      the rows themselves;
    - n_steps: 50 passes over the rows, within 1,000..20,000 steps.

    Raises:
        UserError: there are no training rows, or the config asks for batches larger than all of them.
    """
    if n_train_rows < 1:
        raise UserError("there is no training row: give more images or a smaller holdout_share")
    if config.batch_size is not None and config.batch_size > n_train_rows:
        raise UserError(
            f"batch_size {config.batch_size} is larger than the {n_train_rows} training rows: choose 1..{n_train_rows}"
        )
    batch_size = config.batch_size
    if batch_size is None:
        power_of_two = 1 << max(0, (n_train_rows // _BATCHES_PER_EPOCH).bit_length() - 1)
        batch_size = min(max(power_of_two, _SMALLEST_BATCH), _LARGEST_BATCH, n_train_rows)
    n_steps = config.n_steps
    if n_steps is None:
        n_steps = min(max(_EPOCHS * n_train_rows // batch_size, _SHORTEST_TRAINING), _LONGEST_TRAINING)
    return Schedule(batch_size, n_steps)


def resolve_dead_after_steps(config: SaeConfig, n_train_rows: int) -> int:
    """After how many silent steps a latent counts as dead.

    It is the config's number; without one, two passes over the rows, but at most a twentieth of the training.
    """
    if config.dead_after_steps is not None:
        return config.dead_after_steps
    batch_size, n_steps = resolve_schedule(config, n_train_rows)
    return min(_DEAD_EPOCHS * -(-n_train_rows // batch_size), max(1, n_steps // _DEAD_SHARE_OF_TRAINING))
