"""docs/design.md draws the packages that exist, the import contracts of pyproject.toml and the kinds of jobs.

After a change of the contracts or of a kind write them anew; what a kind makes is written in the page by hand:

    UPDATE_DOCS=1 .venv/bin/python -m pytest tests/docs/test_design.py
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from hsae.pipeline.kinds.registry import stages

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "design.md"
_CONTRACTS = re.compile(r"(<!-- contracts: .*? -->\n```text\n)(.*?)(```\n)", re.DOTALL)
_KINDS = re.compile(r"(<!-- kinds: .*? -->\n(?:.*\n){2})((?:\|.*\n)*)")
_KIND = re.compile(r"^\| `(\S+)` \|.*\| (.*) \|$")
_ENTRY = re.compile(r"^( *)(\S+)(?: {2,}\S.*)?$")


def drawn_contracts() -> str:
    """The contracts, each with its layers from the top."""
    lines: list[str] = []
    for contract in _contracts():
        lines.append(f"{contract['name']}" + (f" ({contract['containers'][0]})" if "containers" in contract else ""))
        if contract["type"] == "layers":
            lines += [f"    {layer.replace('hsae.', '')}" for layer in contract["layers"]]
        elif contract["type"] == "independence":
            lines.append(f"    {' | '.join(contract['modules'])}")
        else:
            lines.append(f"    {', '.join(contract['source_modules'])}")
            lines.append(f"    do not import {', '.join(contract['forbidden_modules'])}")
        lines.append("")
    return "\n".join(lines)


def told_kinds() -> dict[str, str]:
    """What each kind of job makes, by the page."""
    table = _KINDS.search(PAGE.read_text(encoding="utf-8"))
    assert table is not None
    found = [_KIND.match(line) for line in table[2].splitlines()]
    return {row[1]: row[2] for row in found if row is not None}


def table_of_kinds() -> str:
    """A row of each descriptor, after the kinds that it needs."""
    told = told_kinds()
    lines = [
        f"| `{stage.kind}` | `{stage.queue}` | {f'`{stage.per}`' if stage.per else 'where needed'} |"
        f" {', '.join(f'`{kind}`' for kind in stage.after)} | {told.get(stage.kind, '')} |\n"
        for stage in stages()
    ]
    return "".join(lines)


def drawn_entries() -> dict[str, int]:
    """The paths of the drawing, each with the number of its line."""
    drawing = re.search(r"## The packages\n\n```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert drawing is not None
    above: list[tuple[int, str]] = []
    paths = {}
    for number, line in enumerate(drawing[1].splitlines()):
        entry = _ENTRY.match(line)
        assert entry is not None, line
        indent = len(entry[1])
        above = [(width, name) for width, name in above if width < indent] + [(indent, entry[2])]
        paths["".join(name for _, name in above)] = number
    return paths


def test_the_contracts_are_those_of_pyproject():
    page = PAGE.read_text(encoding="utf-8")
    wanted = _CONTRACTS.sub(lambda found: found[1] + drawn_contracts() + found[3], page)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == wanted, "docs/design.md is out of date: see this file's first lines"


def test_the_kinds_of_jobs_are_those_of_the_descriptors():
    page = PAGE.read_text(encoding="utf-8")
    rows = table_of_kinds()
    wanted = _KINDS.sub(lambda found: found[1] + rows, page)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == wanted, "docs/design.md is out of date: see this file's first lines"
    assert [kind for kind, makes in told_kinds().items() if not makes] == [], "say in docs/design.md what they make"


def test_every_drawn_path_exists_and_every_package_is_drawn():
    drawn = set(drawn_entries())
    missing = sorted(path for path in drawn if not (ROOT / path).exists())
    assert missing == []
    packages = {
        f"{folder.parent.relative_to(ROOT)}/"
        for top in ("services/hsae", "worker/hsae_worker")
        for folder in (ROOT / top).rglob("__init__.py")
    }
    assert sorted(packages - drawn) == [], "draw these packages in docs/design.md"


def _contracts() -> list[dict[str, Any]]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts: list[dict[str, Any]] = content["tool"]["importlinter"]["contracts"]
    return contracts


def test_what_imports_is_drawn_above_what_it_imports():
    drawn = drawn_entries()
    wrong = []
    for contract in (contract for contract in _contracts() if contract["type"] == "layers"):
        (container,) = contract.get("containers", [""])
        above: list[str] = []
        for layer in contract["layers"]:
            modules = [f"{container}.{name.strip()}".strip(".") for name in layer.split("|")]
            places = [f"services/{module.replace('.', '/')}{end}" for module in modules for end in ("/", ".py")]
            here = [place for place in places if place in drawn]
            wrong += [
                f"{upper} stands below {place}" for place in here for upper in above if drawn[upper] > drawn[place]
            ]
            above += here
    assert wrong == []
