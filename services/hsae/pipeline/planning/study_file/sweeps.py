"""The field `saes` of a study file: blocks whose lists are sweeps."""

import difflib
import itertools
import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from hsae.errors import UserError
from hsae.pipeline.planning.study_file.gathering import gathered, numbered, placed, shown
from hsae.sae.config import SaeConfig, foreign_setting
from hsae.sae.variants import DEFAULT_KIND, VARIANTS, option_names

MAX_SAES = 1000
# What the command line calls some settings: a study file may call them so, too.
_OF_THE_COMMAND_LINE = {"steps": "n_steps", "views": "n_views", "compute_dtype": "precision"} | {
    option: setting for setting, option in option_names().items()
}
# What other tools call them.
OTHER_NAMES = {
    "width": "expansion", "widths": "expansion", "lr": "learning_rate", "type": "kind", "sae": "saes",
    "layer": "layers", **_OF_THE_COMMAND_LINE,
}  # fmt: skip


def read_saes(value: Any) -> tuple[SaeConfig, ...]:
    """Every SAE that the blocks ask for, once each.

    Raises:
        UserError: blocks are not valid, or ask for more than `MAX_SAES`.
    """
    if not isinstance(value, list) or not value:
        raise UserError("saes: write a list of blocks, each such as `- {kind: topk, expansion: [4, 8], k: 32}`")
    configs = tuple(dict.fromkeys(itertools.chain.from_iterable(gathered(_sweep, numbered("saes", value)))))
    if len(configs) > MAX_SAES:
        raise UserError(f"saes: {len(configs)} SAEs per layer are more than {MAX_SAES}: split the study")
    return configs


def _sweep(place: str, block: Any) -> list[SaeConfig]:
    """The product of a block's lists; if it names several kinds, each takes the settings that apply to it."""
    if not isinstance(block, Mapping):
        raise UserError(f"{place}: {shown.repr(block)} is no block: write {{kind: topk, k: [16, 32]}} or the like")
    known = SaeConfig.defaults()

    def listed(name: str, given: Any) -> tuple[str, list[Any]]:
        at = f"{place}.{name}"
        if name not in known:
            raise UserError(f"{at} is no setting of an SAE{meant(name, known)}")
        values = given if isinstance(given, list) else [given]
        if not values:
            raise UserError(f"{at} is an empty list: give at least one value, or leave it out")
        for value in values:
            if isinstance(value, list | Mapping | bool):
                raise UserError(f"{at}: {shown.repr(value)} is no single value: write one value, or a list of values")
        return name, values

    values = dict(gathered(listed, as_settings(place, block).items()))
    n_configs = math.prod(len(listed) for listed in values.values())
    if n_configs > MAX_SAES:
        raise UserError(f"{place} is a sweep over {n_configs} SAEs per layer, more than {MAX_SAES}: split the study")
    kinds = values.get("kind", [DEFAULT_KIND])
    applies = {kind: SaeConfig.settings_of(kind) for kind in VARIANTS}
    foreign = [name for name in values if not any(name in applies.get(str(kind), known) for kind in kinds)]
    if foreign:
        raise UserError("; ".join(f"{place}.{foreign_setting(name, kinds[0])}" for name in foreign))

    def config(*combination: Any) -> SaeConfig:
        given = dict(zip(values, combination, strict=True))
        own = applies.get(str(given.get("kind", DEFAULT_KIND)), known)
        return SaeConfig.parse({name: value for name, value in given.items() if name in own})

    return placed(place, partial(gathered, config), itertools.product(*values.values()))  # type: ignore[no-any-return]


def as_settings(place: str, block: Mapping[Any, Any]) -> dict[Any, Any]:
    """The block with the command line's names (`steps`, `batch-size`) replaced by those of the settings."""
    settings: dict[Any, Any] = {}
    given: dict[Any, Any] = {}
    for name, value in block.items():
        plain = name.replace("-", "_") if isinstance(name, str) else name
        setting = _OF_THE_COMMAND_LINE.get(plain, plain)
        if setting in settings:
            raise UserError(f"{place}: {given[setting]} and {name} are the same setting: leave one out")
        settings[setting], given[setting] = value, name
    return settings


def meant(name: object, known: Iterable[str]) -> str:
    """The name that a mistyped one probably stands for, and all names."""
    names, other = list(known), OTHER_NAMES.get(str(name))
    close = [other] if other in names else difflib.get_close_matches(str(name), names, n=1)
    return f": did you mean {close[0]}?" if close else f": choose from {', '.join(names)}"
