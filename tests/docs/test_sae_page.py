"""docs/sae.md names every kind of SAE, and every setting with its default and the kinds that have it."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from hsae.sae.config import SaeConfig
from hsae.sae.variants import DEFAULT_KIND, VARIANTS, own_settings

_PAGE = (Path(__file__).parents[2] / "docs" / "sae.md").read_text(encoding="utf-8")


def kinds_in(text: str) -> set[str]:
    """The kinds among the words of a text."""
    return set(re.findall(r"\w+", text)) & VARIANTS.keys()


def value_of(text: str) -> Any:
    """A default as a number, None or text."""
    if text in ("none", "all"):
        return None
    try:
        return float(Fraction(text))
    except ValueError:
        return text


def settings_table() -> dict[str, tuple[Any, str]]:
    """By setting its default and what the page says of it."""
    table = re.search(r"\| setting \| default \| \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", _PAGE)
    assert table is not None
    found: dict[str, tuple[Any, str]] = {}
    for line in table[1].splitlines():
        names, defaults, about = (cell.strip() for cell in line.strip("|").split(" | "))
        values = [value_of(text.strip("`")) for text in defaults.split(", ")]
        found |= {name: (value, about) for name, value in zip(re.findall(r"`(\w+)`", names), values, strict=True)}
    return found


def test_the_encoding_names_every_kind_and_no_other():
    block = re.search(r"\n\n((?:    .*\n)+)\n", _PAGE)
    assert block is not None
    lists = re.findall(r" kinds? (.*(?:\n {40,}.*)*)", block[1])
    told = [name.strip() for text in lists for name in re.sub(r"\(.*?\)", "", text).split(",")]
    assert sorted(told) == sorted(VARIANTS)


def test_every_setting_has_its_default_and_no_other_setting_is_told():
    told = {name: value for name, (value, _) in settings_table().items()}
    defaults = SaeConfig.defaults()
    assert told == {
        name: float(value) if isinstance(value, int | float) else value
        for name, value in defaults.items()
        if name != "imported"  # `sae import` sets it
    }


def test_the_kinds_that_have_a_setting():
    told = {name: kinds_in(about) for name, (_, about) in settings_table().items() if name in own_settings()}
    assert told == {
        name: {kind for kind, variant in VARIANTS.items() if name in variant.settings()} for name in own_settings()
    }
    assert kinds_in(settings_table()["kind"][1]) | {DEFAULT_KIND} == VARIANTS.keys()
