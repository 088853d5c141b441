"""What a notebook gives to an analysis: filters of its tables."""

from typing import Any

import numpy as np

from hsae.catalog import transaction
from hsae.catalog.findings.scores import layer_rows
from hsae.catalog.queries.score_filter import AnalysisFilter, LatentFilter
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.vocabulary.bases import SHUFFLED_BASES

_SAE = "sae"


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
