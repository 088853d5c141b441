"""What a backbone is called in front of people."""

from pathlib import PurePath

LIBRARIES = ("timm", "open_clip")
"""Libraries whose models are named behind a prefix, as in timm:vit_base_patch14_dinov2."""


def short_model_name(name: str) -> str:
    """A hub id as it is, a local folder by its last part."""
    library = library_of(name)
    if library is not None:
        return f"{library}:{short_model_name(name.removeprefix(f'{library}:'))}"
    path = PurePath(name)
    return path.name if path.is_absolute() else name


def random_init_name(name: str, seed: int) -> str:
    """The name of randomly initialised weights: it differs from the trained model's wherever a model is named."""
    return f"{name} (random init, seed {seed})"


def library_of(name: str) -> str | None:
    """The library that a prefix of a model's name stands for, timm or open_clip; None: transformers."""
    prefix, colon, rest = name.partition(":")
    return prefix if colon and rest and prefix in LIBRARIES else None
