"""What models, SAEs and data sets share of the Hugging Face Hub."""

from pathlib import Path

import huggingface_hub
from huggingface_hub import errors

TRANSPORT_ERROR: type[Exception] = getattr(errors, "HTTPError", OSError)
"""Raised by the HTTP client during a transfer; its library differs between hub versions."""


def is_cached(
    name: str, file: str, *, revision: str | None, cache_dir: Path | None, repo_type: str | None = None
) -> bool:
    """Whether the hub's cache has a file of a repository; `repo_type`: None for a model, or `dataset`."""
    found = huggingface_hub.try_to_load_from_cache(
        name, file, cache_dir=cache_dir, revision=revision, repo_type=repo_type
    )
    return isinstance(found, str)
