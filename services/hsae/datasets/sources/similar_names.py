"""Finds an existing name that looks like that of a missing file: accents, spaces and case are hard to see."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path


def similar_name_hint(path: Path) -> str:
    """The end of an error message about a missing `path`; empty if no name there looks like it."""
    missing = path
    while (names := _names_in(missing.parent)) is None:
        if missing.parent == missing:
            return ""
        missing = missing.parent
    # A link that leads nowhere is both there and missing.
    similar = sorted(name for name in names - {missing.name} if _looks(name) == _looks(missing.name))
    if not similar:
        return ""
    there = " and ".join(map(ascii, similar))
    return (
        f"; {missing.parent} holds {there}, which looks like {missing.name!a} and is not the same: write the name as it"
        " is there (Unicode form, spaces, case)"
    )


def _names_in(folder: Path) -> set[str] | None:
    try:
        return {entry.name for entry in folder.iterdir()}
    except OSError:
        return None


def told_apart(names: Sequence[str], *, plain: Callable[[str], str] = str) -> list[str]:
    """The names as a message shows them.

    Args:
        names: the names, all different.
        plain: how a name is shown that looks like no other; the others are in quotes, with escapes.
    """
    count = Counter(map(_looks, names))
    return [ascii(name) if count[_looks(name)] > 1 else plain(name) for name in names]


def _looks(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()
