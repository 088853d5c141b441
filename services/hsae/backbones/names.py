"""What a backbone is called in front of people."""

from pathlib import PurePath


def short_model_name(name: str) -> str:
    """A hub id as it is, a local folder by its last part."""
    path = PurePath(name)
    return path.name if path.is_absolute() else name


def random_init_name(name: str, seed: int) -> str:
    """The name of randomly initialised weights: it differs from the trained model's wherever a model is named."""
    return f"{name} (random init, seed {seed})"
