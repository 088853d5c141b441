"""The kinds of SAE. A module of this package, or of a package inside, defines one; a new kind is a new module."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from hsae.sae.variants.variant import OwnSetting, SaeVariant

DEFAULT_KIND = "relu"


def _defined() -> Iterator[type[SaeVariant]]:
    """The classes that have a name; those without one are the bases of others."""
    for found in pkgutil.walk_packages(__path__, f"{__name__}."):
        module = import_module(found.name)
        for value in vars(module).values():
            defined_here = isinstance(value, type) and value.__module__ == module.__name__
            if defined_here and issubclass(value, SaeVariant) and hasattr(value, "kind"):
                yield value


VARIANTS: dict[str, type[SaeVariant]] = {
    variant.kind: variant for variant in sorted(_defined(), key=lambda found: found.kind)
}
"""The kinds by name."""


def own_settings() -> dict[str, OwnSetting]:
    """The settings that not every kind has, by name; of a name that several kinds use, that of the first of them."""
    found: dict[str, OwnSetting] = {}
    for variant in VARIANTS.values():
        found = {**variant.settings(), **found}
    return dict(sorted(found.items()))


def option_names() -> dict[str, str]:
    """What the command line calls the settings that not every kind has, by their names: {"l1_coefficient": "l1"}."""
    return {
        name: setting.about.option.removeprefix("--").replace("-", "_")
        for name, setting in own_settings().items()
        if setting.about.option
    }
