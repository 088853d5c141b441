"""Layers as a person writes them."""

import re
from typing import Literal

from hsae.errors import UserError


def parse_layers(text: str) -> tuple[int, ...] | Literal["all"]:
    """Layers as a person writes them: `8`, `0-3,8` or `all`; sorted, without repetition.

    Raises:
        UserError: names the part that cannot be read.
    """
    if text.strip().lower() == "all":
        return "all"
    chosen: set[int] = set()
    for part in text.split(","):
        if not part.strip():
            continue
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        numbers = (first, last) if dash else (first,)
        sound = all(re.fullmatch(r"[0-9]{1,4}", number) for number in numbers)
        if not sound or (dash and int(first) > int(last)):
            raise UserError(f"{text} cannot be read at {part!r}: write numbers and ranges such as 0-3,8, or all")
        chosen |= set(range(int(first), int(last if dash else first) + 1))
    return tuple(sorted(chosen))
