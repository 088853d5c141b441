"""Finds the image source for what a user gave, by the scheme of its URI.

A module of this package that registers a source is all that a new source needs.
"""

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from hsae.datasets.sources.source import ImageSource
from hsae.errors import UserError

MakeSource = Callable[[str], ImageSource]

# One letter is no scheme but a drive.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_makers: dict[str, MakeSource] = {}


def register_source(*schemes: str) -> Callable[[MakeSource], MakeSource]:
    """Decorate a class or function that makes a source from a URI of one of these schemes ("": a path without one).

    The module is imported whenever any source is looked for: libraries that take long to import belong into methods.
    """

    def register(make: MakeSource) -> MakeSource:
        for scheme in schemes:
            if scheme in _makers:
                raise ValueError(f"two image sources are registered for {scheme}://")
            _makers[scheme] = make
        return make

    return register


def scheme_of(location: str) -> str:
    """The scheme of a URI in small letters; "" for a path."""
    found = _SCHEME.match(location)
    return found[1].lower() if found else ""


def source_at(location: str | Path) -> ImageSource:
    """The source at a URI or local path. Whether there is anything is not looked at.

    Raises:
        UserError: for a scheme that no source is registered for.
    """
    _import_sources()
    location = str(location)
    scheme = scheme_of(location)
    if scheme not in _makers:
        known = ", ".join(f"{known}://" for known in sorted(_makers) if known)
        raise UserError(f"{location}: there is no image source for {scheme}:// (known: a local path, {known})")
    return _makers[scheme](location)


@cache
def _import_sources() -> None:
    for module in iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")
