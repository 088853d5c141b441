"""What a notebook gives to an analysis: numbers of latents, and filters of its tables."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hsae.catalog import transaction
from hsae.catalog.findings.scores import layer_rows
from hsae.catalog.queries.score_filter import AnalysisFilter, LatentFilter
from hsae.errors import UserError
from hsae.hierarchy.basis_result import SHUFFLED_BASES
from hsae.pipeline.connections import Connections

_SAE = "sae"
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


def number_at_least_0(name: str, value: Any) -> int:
    """A whole number that is not negative.

    Raises:
        UserError: it is none.
    """
    is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_number or not 0 <= value < 2**63:
        raise UserError(f"{name} is {value!r}: give a whole number from 0")
    return int(value)


def wanted_scores(
    connections: Connections, analysis_id: int, given: dict[str, Any], *, own_columns: bool
) -> LatentFilter:
    """The filter of a table of an analysis.

    Args:
        connections: the service.
        analysis_id: the analysis.
        given: fields of `LatentFilter` as the user gives them.
        own_columns: whether only bases with columns of their own have such a table.

    Raises:
        UserError: a number is none, the limit is negative, or the analysis has no such basis (it lists those it has).
    """
    for name, value in given.items():
        if name == "basis" or value is None:
            continue
        if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
            raise UserError(f"{name} is {value!r}: give a number")
    limit, basis = given.get("limit"), given["basis"]
    if limit is not None and (limit < 0 or not isinstance(limit, int | np.integer)):
        raise UserError(f"limit is {limit}: give a whole number of rows, or None for all")
    if basis != _SAE:
        with transaction(connections.sessions) as session:
            rows = layer_rows(session, AnalysisFilter(analysis_ids=(analysis_id,)))
        there = [row["basis"] for row in rows if not (own_columns and row["basis"] in SHUFFLED_BASES)]
        if basis not in there:
            raise UserError(f"analysis {analysis_id} has no basis {basis!r}: choose from {', '.join(there)}")
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    return LatentFilter(analysis_ids=(analysis_id,), **plain)
