"""Latents as a notebook gives them: by number, in a list, or as a table."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hsae.errors import UserError

_WAYS = "give a number, a list of numbers, or a table with a column latent"


def latent_numbers(latents: Any) -> list[int]:
    """The numbers of latents.

    Args:
        latents: a number, several, or a table of pandas with a column `latent`.

    Raises:
        UserError: it is none of these.
    """
    if hasattr(latents, "columns"):
        if "latent" not in latents.columns:
            raise UserError(f"the table has no column latent: {_WAYS}")
        latents = latents["latent"]
    if isinstance(latents, str | bytes):
        raise UserError(f"the latents are the text {latents!r}: {_WAYS}")
    given = latents.tolist() if hasattr(latents, "tolist") else latents
    return [_number(one) for one in (given if hasattr(given, "__iter__") else [given])]


def changed_latents(latents: Any, value: float) -> dict[int, float]:
    """By latent the number that an edit changes it by: its own where `latents` is a mapping, else `value`.

    Raises:
        UserError: there is no latent, or a number is none.
    """
    given = dict(latents) if isinstance(latents, Mapping) else dict.fromkeys(latent_numbers(latents), value)
    changes: dict[int, float] = {}
    for latent, change in given.items():
        is_number = isinstance(change, int | float | np.integer | np.floating) and not isinstance(change, bool)
        if not is_number or not math.isfinite(change):
            raise UserError(f"latent {latent} is changed by {change!r}: give a finite number")
        changes[_number(latent)] = float(change)
    return changes


def _number(one: Any) -> int:
    is_number = isinstance(one, int | float | np.integer | np.floating) and not isinstance(one, bool)
    if not is_number or not float(one).is_integer():  # a column that lacks some values has floats
        raise UserError(f"{one!r} is no number of a latent: {_WAYS}")
    return int(one)
