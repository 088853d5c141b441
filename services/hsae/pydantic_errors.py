"""What pydantic found wrong with an input, for the one line that its author reads."""

from collections.abc import Callable
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
