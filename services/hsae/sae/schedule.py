"""How the learning rate moves over a training: a pure function of the step."""

from hsae.sae.config import SaeConfig


def learning_rate(config: SaeConfig, step: int, n_steps: int) -> float:
    """The rate of a step (counted from 0): linear rise over the warm-up share, level, linear fall towards 0 over the
    decay share. It is never 0."""
    rise = (step + 1) / (config.lr_warmup_share * n_steps) if config.lr_warmup_share > 0 else 1.0
    fall = (n_steps - step) / (config.lr_decay_share * n_steps) if config.lr_decay_share > 0 else 1.0
    return config.learning_rate * min(1.0, rise, fall)
