"""The committed results: what the pages say of them is what they hold."""

import json
import re
from pathlib import Path

import pytest
from benchmarks.findings.layer_table_text import markdown

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
_NULLS = json.loads((RESULTS / "null_tests-2-cpu-cores.json").read_text(encoding="utf-8"))
_OF_LEVEL = {row["name"]: row for row in _NULLS["rows"] if row["goal"] is not None}
_NAMES = {
    "demo": "demo, block 5, relu",
    "planted": "planted truth",
    "emoji, dinov2-small block 9": "emoji, block 9, topk",
    "Fashion-MNIST": "fashion, block 5, relu",
}


def _stored_share(data: str, shuffle: str, number: str) -> float | None:
    """Share of the seeds by which a number is judged; None where it is undefined or has no interval."""
    found = [
        row["value"] for name, row in _OF_LEVEL.items() if name.startswith(f"{data}, shuffled {shuffle}, {number}:")
    ]
    assert len(found) < 2
    return found[0] if found else None


def test_the_tables_of_the_findings_are_those_of_the_result():
    stored = json.loads((RESULTS / "layers_by_basis-emoji-dinov2-small.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in markdown(stored["table"]).splitlines() if line.startswith("|")]
    assert [row for row in rows if row not in page] == []


@pytest.mark.parametrize("name", _OF_LEVEL)
def test_no_number_differs_from_its_null_more_often_than_its_goal_allows(name):
    row = _OF_LEVEL[name]
    assert row["value"] <= row["goal"] <= 0.11
    assert row["met"]


def test_the_page_has_every_share_of_the_null_tests():
    page = (
        (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").split("## `null_tests.py`")[1].split("\n## ")[0]
    )
    header, _, *rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    data = [cell.strip() for cell in header[2:]]
    assert set(data) == set(_NAMES)
    n_shares = 0
    for number, shuffle, *cells in rows:
        for name, cell in zip(data, cells, strict=True):
            share = _stored_share(_NAMES[name], shuffle.strip(), number.strip(" `"))
            assert cell.strip() == ("-" if share is None else f"{share:.0%}".replace("%", " %"))
            n_shares += share is not None
    assert n_shares == len(_OF_LEVEL)
    above = sum(row["value"] > 0.05 for row in _OF_LEVEL.values())
    assert re.search(rf"\b{above} of the {n_shares} shares are above 5 %", page)
