"""Names of settings for people: different settings have different names, and what all of them share is left out."""

import json
from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from typing import Any, TypeVar

from hsae.backbones.names import short_model_name
from hsae.sae.variants import option_names

Key = TypeVar("Key", bound=Hashable)

_SHORT = {"n_steps": "steps", "n_views": "views"} | option_names()
"""Settings that the command line calls otherwise."""


def setting_names(
    settings: Mapping[Key, Mapping[str, Any]], *, always: Collection[str] = (), separator: str = " "
) -> dict[Key, str]:
    """A name for each of the settings: the values in which they differ, in their order.

    Args:
        settings: by whatever they belong to, names of settings and their values. A setting that applies to some of them
            only differs where those that have it differ, or where others of the same kind do not have it.
        always: settings that stand in every name; that an SAE is imported always does.
        separator: what stands between two values.

    Returns:
        The names by the same keys. Equal settings have one name, other ones another: where one has a setting that the
        other has not, and nothing else tells them apart, a number does.
    """
    order = list(dict.fromkeys(name for values in settings.values() for name in values))
    shown = [name for name in order if name in {*always, "imported"} or _differs(name, settings.values())]
    names = {
        key: separator.join(_words(name, values[name]) for name in shown if name in values)
        for key, values in settings.items()
    }
    different: dict[str, list[str]] = {}
    for key, values in settings.items():
        same = different.setdefault(names[key], [])
        if (content := repr(sorted((name, _canonical(value)) for name, value in values.items()))) not in same:
            same.append(content)
        if (number := 1 + same.index(content)) > 1:
            names[key] = f"{names[key]}{separator}#{number}"
    return names


def told_apart(names: Mapping[int, str], layers: Mapping[int, int]) -> dict[int, str]:
    """The names of analyses, with the analysis' number where two of one layer would have the same."""
    taken = Counter((layers[number], name) for number, name in names.items())
    return {
        number: f"{name} (analysis {number})" if taken[layers[number], name] > 1 else name
        for number, name in names.items()
    }


def _differs(name: str, settings: Collection[Mapping[str, Any]]) -> bool:
    having = [values for values in settings if name in values]
    if len({_canonical(values[name]) for values in having}) > 1:
        return True
    kinds = [values["kind"] for values in having if "kind" in values]
    return any(name not in values and values.get("kind") in kinds for values in settings)


def _canonical(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _words(name: str, value: Any) -> str:
    if name in {"kind", "tokens"}:
        return str(value)
    if name == "expansion":
        return f"x{value}"
    if name == "imported":
        return f"imported {value['name']}"
    if name == "model":
        return short_model_name(str(value))
    if name == "dataset":
        return f"on {value}"
    if isinstance(value, list):
        value = "+".join(map(str, value)) or "none"
    return f"{_SHORT.get(name, name)}={'auto' if value is None else value}"
