"""Everything that is wrong with a list of values, in one `UserError`, with the places in the file."""

from collections.abc import Callable, Iterable, Iterator
from reprlib import Repr
from typing import Any, TypeVar

from hsae.errors import UserError

_T = TypeVar("_T")
shown = Repr()  # short, whatever an alias of YAML may stand for
shown.maxlevel = 2


def numbered(place: str, values: list[Any]) -> Iterator[tuple[str, Any]]:
    """The values, each behind its place: `saes[0]`."""
    return ((f"{place}[{i}]", value) for i, value in enumerate(values))


def gathered(function: Callable[..., _T], values: Iterable[tuple[Any, ...]]) -> list[_T]:
    """The function's results; what is wrong with any of the values comes in one `UserError`."""
    made: list[_T] = []
    wrong: dict[str, None] = {}
    for value in values:
        try:
            made.append(function(*value))
        except UserError as error:
            wrong[str(error)] = None
    if wrong:
        raise UserError("; ".join(wrong))
    return made


def placed(place: str, function: Any, value: Any) -> Any:
    """`function(value)`; a `UserError` gets the value's place in the file."""
    try:
        return function(value)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
