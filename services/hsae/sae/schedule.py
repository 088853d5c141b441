"""How the learning rate and the L1 weight move over a training: pure functions of the step."""

from hsae.sae.config import SaeConfig


def learning_rate(config: SaeConfig, step: int, n_steps: int) -> float:
    """The rate of a step (counted from 0): linear rise over the warm-up share, level, linear fall towards 0 over the
    decay share. It is never 0."""
    rise = (step + 1) / (config.lr_warmup_share * n_steps) if config.lr_warmup_share > 0 else 1.0
    fall = (n_steps - step) / (config.lr_decay_share * n_steps) if config.lr_decay_share > 0 else 1.0
    return config.learning_rate * min(1.0, rise, fall)


def l1_weight(config: SaeConfig, step: int, n_steps: int) -> float:
    """The weight of the L1 penalty at a step (counted from 0): linear rise from near 0 over the warm-up share;
    0 for "topk"."""
    if config.kind == "topk":
        return 0.0
    rise = (step + 1) / (config.l1_warmup_share * n_steps) if config.l1_warmup_share > 0 else 1.0
    return config.l1_coefficient * min(1.0, rise)
