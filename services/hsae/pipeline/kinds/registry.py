"""Finds the kinds of jobs: every descriptor of this package and its folders, and those that a program adds."""

import functools
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from graphlib import TopologicalSorter
from importlib import import_module
from types import MappingProxyType
from typing import Any

from hsae.frozen_model import FrozenModel
from hsae.pipeline import kinds
from hsae.pipeline.kinds.stage import Stage

_registered: dict[str, Stage[Any]] = {}


def stages() -> tuple[Stage[Any], ...]:
    """All kinds of jobs, each after those that it needs."""
    found = {**_of_this_package(), **_registered}
    order = TopologicalSorter({kind: found[kind].after for kind in sorted(found)}).static_order()
    return tuple(found[kind] for kind in order)


def stage_of(kind: str) -> Stage[Any]:
    """The descriptor of a kind of job.

    Raises:
        KeyError: there is no such kind.
    """
    return _registered[kind] if kind in _registered else _of_this_package()[kind]


def own_settings() -> dict[str, type[FrozenModel]]:
    """By kind the class of the settings that only its stage has."""
    return {stage.kind: stage.settings for stage in stages() if stage.settings is not None}


def stage_of_folder(folder: str) -> Stage[Any] | None:
    """The stage whose artifacts are in a folder of the bucket; None for data sets, logs and the like."""
    return next((stage for stage in {**_of_this_package(), **_registered}.values() if stage.folder == folder), None)


@contextmanager
def registered(stage: Stage[Any]) -> Iterator[None]:
    """Add a kind for the duration of the block; for programs with a stage of their own."""
    _registered[stage.kind] = stage
    try:
        yield
    finally:
        del _registered[stage.kind]


@functools.cache
def _of_this_package() -> Mapping[str, Stage[Any]]:
    """The descriptors of this package by kind; a new file needs no registration."""
    found_modules = pkgutil.walk_packages(kinds.__path__, f"{kinds.__name__}.")
    modules = (import_module(found.name) for found in found_modules)
    values = (value for module in modules for value in vars(module).values())
    return MappingProxyType({value.kind: value for value in values if isinstance(value, Stage)})
