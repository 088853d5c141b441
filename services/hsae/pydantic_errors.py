"""What pydantic found wrong with an input, for the one line that its author reads."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong.

    Attributes:
        place: the field, with those that it lies in: `scoring.seed`; empty for the input as a whole.
        reason: pydantic's sentence.
        kind: pydantic's name of the mistake, such as `extra_forbidden`.
        value: what was given. It may be a secret: do not print that of a setting.
    """

    place: str
    reason: str
    kind: str
    value: Any = field(repr=False)


def mistakes(error: ValidationError) -> tuple[Mistake, ...]:
    """Everything that is wrong with the input, in the order of its fields."""
    return tuple(
        Mistake(".".join(map(str, found["loc"])), found["msg"], found["type"], found["input"])
        for found in error.errors(include_url=False, include_context=False)
    )


def one_line(error: ValidationError, tell: Callable[[Mistake], str]) -> str:
    """Everything that is wrong with the input, each as `tell` says it, in one line."""
    return "; ".join(tell(mistake) for mistake in mistakes(error))


def first_line(error: ValidationError, bounded: Mapping[str, Iterable[Any]], whole: str) -> str:
    """The first thing that is wrong, in plain words.

    Args:
        error: what pydantic raised.
        bounded: constraints of the fields, by name.
        whole: what the input as a whole is called.
    """
    first, *_ = mistakes(error)
    name = first.place or whole
    bounds = _bounds(bounded.get(name, ()))
    if bounds and first.kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        return f"{name} {first.value} is out of range: choose {bounds}"
    return f"{name} {first.value!r} is not valid: {first.reason[0].lower()}{first.reason[1:]}"


def _bounds(constraints: Iterable[Any]) -> str:
    """The allowed range of a field, such as "1..512" or "more than 0 and at most 1"."""
    limits = {kind: getattr(m, kind) for m in constraints for kind in ("ge", "gt", "le", "lt") if hasattr(m, kind)}
    if "ge" in limits and "le" in limits:
        return f"{limits['ge']}..{limits['le']}"
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    return " and ".join(f"{words[kind]} {limit}" for kind, limit in limits.items())
