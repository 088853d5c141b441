"""Rows of the catalog of which floats may differ a little."""

from typing import Any

import pytest


def about(value: Any, *, rel: float, abs_: float) -> Any:
    """What equals the value, and also floats near it; within lists and dictionaries, too."""
    if isinstance(value, dict):
        return {name: about(one, rel=rel, abs_=abs_) for name, one in value.items()}
    if isinstance(value, list):
        return [about(one, rel=rel, abs_=abs_) for one in value]
    return pytest.approx(value, rel=rel, abs=abs_) if isinstance(value, float) else value
