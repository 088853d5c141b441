"""Numbers, names and times as the pages write them."""

import math
from datetime import datetime
from typing import Any

from hsae.vocabulary.bases import BASIS_NAMES

NOTHING = "–"
_LEAST_P = 1e-4
_SMALL_P = 0.1
_HARDLY = -1.0


def number(value: Any, digits: int = 2) -> str:
    """A number with so many decimals; a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "\u2212")


def adjusted(value: float | None) -> str:
    """An adjusted F1; far below 0, as at nodes of nearly all images, only that."""
    if value is not None and value < _HARDLY:
        return "<\u202f\u22121"
    return number(value)


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign."""
    text = number(value, digits)
    return f"+{text}" if value is not None and math.isfinite(value) and value >= 0 else text


def p_value(value: float | None) -> str:
    """A p- or q-value; below 0.0001 only that, and from 0.1 on with two decimals."""
    if value is None:
        return NOTHING
    if value < _LEAST_P:
        return "<\u202f.0001"
    return f"{value:.{2 if value >= _SMALL_P else 4}f}".removeprefix("0")


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent; small ones keep two digits that count."""
    if value is None:
        return NOTHING
    shown = 100 * value
    if 0 < shown < 1:
        digits = max(digits, 1 - math.floor(math.log10(shown)))
    return f"{shown:.{min(digits, 6)}f}\u202f%"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """`[low, high]` with so many decimals; nothing without one."""
    return "" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"


def counted(value: int, thing: str) -> str:
    """`1 image`, `20 images`."""
    return f"{number(value)} {thing}{'' if value == 1 else 's'}"


def moment(value: datetime | None) -> str:
    """A time to the minute."""
    return NOTHING if value is None else f"{value:%Y-%m-%d %H:%M}"


def basis_name(basis: str | None) -> str:
    """What pages call a basis."""
    return NOTHING if basis is None else BASIS_NAMES.get(basis, basis)
