"""Numbers of rows as figures take them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def values(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """A column of the rows; NaN, which leaves a gap, where a row has none."""
    return [math.nan if row.get(name) is None else float(row[name]) for row in rows]
