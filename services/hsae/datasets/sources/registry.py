"""Finds the image source for a location, by the scheme of its URI.

To add a source, add a module to this package that registers it.
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

# One letter is no scheme but a drive. The hub's ids stand behind a prefix, as those of models do.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|(hf):", re.IGNORECASE)
_makers: dict[str, MakeSource] = {}


def register_source(*schemes: str) -> Callable[[MakeSource], MakeSource]:
    """Register the decorated class or function, which makes a source from a URI of one of these schemes.

    The module is imported whenever any source is looked for, so import slow libraries inside methods.

    Args:
        schemes: such as "file"; "" is a path without a scheme.

    Raises:
        ValueError: a scheme has a source already.
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
    return (found[1] or found[2]).lower() if found else ""


def without_password(location: str) -> str:
    """A URI as messages show it: what stands before the last @ of its server is left out."""
    scheme, found, rest = location.partition("://")
    server, slash, path = rest.partition("/")
    return f"{scheme}{found}{server.rpartition('@')[2]}{slash}{path}" if found else location


def source_at(location: str | Path) -> ImageSource:
    """The source at a URI or local path; nothing is opened or listed.

    Raises:
        UserError: no source is registered for the scheme.
    """
    _import_sources()
    location = str(location)
    scheme = scheme_of(location)
    if scheme not in _makers:
        known = ", ".join(f"{known}://" for known in sorted(_makers) if known)
        raise UserError(
            f"{without_password(location)}: there is no image source for {scheme}:// (known: a local path, {known})"
        )
    return _makers[scheme](location)


@cache
def _import_sources() -> None:
    for module in iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")
