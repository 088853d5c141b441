"""What pydantic found wrong with an input, for the one line that its author reads."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from hsae.errors import UserError


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


def plain_line(error: ValidationError, bounded: Mapping[str, Iterable[Any]], whole: str) -> str:
    """Everything that is wrong with the input, in plain words and in one line.

    Args:
        error: what pydantic raised.
        bounded: constraints of the fields, by name.
        whole: what the input as a whole is called.
    """

    def tell(mistake: Mistake) -> str:
        name = mistake.place or whole
        bounds = _bounds(bounded.get(name, ()))
        if bounds and mistake.kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
            return f"{name} {mistake.value} is out of range: choose {bounds}"
        return f"{name} {mistake.value!r} is not valid: {mistake.reason[0].lower()}{mistake.reason[1:]}"

    return one_line(error, tell)


SAID = "said"
"""The kind of a mistake whose reason is a whole sentence, with the place."""


def collected(validator: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The validator, its `UserError` one mistake among the others of the input: by itself it would hide them."""

    @wraps(validator)
    def collecting(value: Any) -> Any:
        try:
            return validator(value)
        except UserError as error:
            raise PydanticCustomError(SAID, "{said}", {"said": str(error)}) from error

    return collecting


def _bounds(constraints: Iterable[Any]) -> str:
    """The allowed range of a field, such as "1..512" or "more than 0 and at most 1"."""
    limits = {kind: getattr(m, kind) for m in constraints for kind in ("ge", "gt", "le", "lt") if hasattr(m, kind)}
    if "ge" in limits and "le" in limits:
        return f"{limits['ge']}..{limits['le']}"
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    return " and ".join(f"{words[kind]} {limit}" for kind, limit in limits.items())
