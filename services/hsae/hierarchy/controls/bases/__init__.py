"""The baselines of an SAE. Each module but `baseline`, `columns` and `inputs` defines one."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from hsae.hierarchy.controls.bases.baseline import Baseline
from hsae.vocabulary.bases import CONTROL_BASES, ControlBasis


def _defined() -> Iterator[type[Baseline]]:
    for found in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        for value in vars(module).values():
            is_own = isinstance(value, type) and issubclass(value, Baseline) and value.__module__ == module.__name__
            if is_own and value is not Baseline:
                yield value


BASES: dict[ControlBasis, type[Baseline]] = {
    baseline.name: baseline for baseline in sorted(_defined(), key=lambda found: CONTROL_BASES.index(found.name))
}
"""Their classes by name, in the order in which they are scored."""
