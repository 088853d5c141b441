"""File formats of SAEs. Each module of this package but `format` defines one; a new format is a new module."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from hsae.sae.exchange.formats.format import SaeFormat


def _defined() -> Iterator[SaeFormat]:
    for found in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        for value in vars(module).values():
            defined_here = isinstance(value, type) and value.__module__ == module.__name__
            if defined_here and issubclass(value, SaeFormat) and value is not SaeFormat:
                yield value()


FORMATS: dict[str, SaeFormat] = {found.name: found for found in sorted(_defined(), key=lambda found: found.name)}
"""The formats of other packages by name."""
