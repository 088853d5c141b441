"""Arrows in headings: one place says of every number whether more or less is better."""

import ast
from pathlib import Path
from typing import Any

import pytest

from hsae import cli
from hsae.cli.printing import better
from hsae.cli.printing.better import _ARROWS, LESS, MORE, legend, marked, print_marked_rows
from hsae.cli.results import absorption, compare, edges, interventions, latents, layers, levels, nodes, study, tree
from hsae.cli.results.images import similar
from hsae.cli.results.text import names
from hsae.cli.saes import compare as sae_compare
from hsae.cli.saes import listing as sae_listing
from hsae.cli.saes import show as sae_show

TABLES: dict[str, Any] = {
    "headline": layers._HEADLINE_COLUMNS, "layers": layers._CHANCE_COLUMNS, "paper": layers._PAPER_COLUMNS,
    "training": layers._TRAINING_COLUMNS, "scores": layers._SCORES, "latents": latents._COLUMNS,
    "nodes": nodes._COLUMNS, "tree": tree._COLUMNS, "edges": edges._COLUMNS, "edge means": edges._MEANS,
    "absorption": absorption._COLUMNS, "absorption means": absorption._MEANS, "levels": levels._ACCURACIES,
    "study": study.METRICS, "compare": compare._GROUPS, "compared nodes": compare._NODES, "similar": similar._COLUMNS,
    "sae list": sae_listing._SAES, "sae show": sae_show._FIGURES, "sae compare": sae_compare._FIGURES,
}  # fmt: skip
TABLES |= {
    str(table): columns for of_command in (names, interventions) for table, columns in of_command._COLUMNS.items()
}
SURENESS = ("p", "q", "p ", "q ", "\np")


def test_an_arrow_ends_the_first_line_of_a_heading():
    given = {"layer": "\nlayer", "fvu": "\nFVU", "coherence": "coherence\nexcess, bits", "accuracy": "seen  "}
    assert marked(given) == {
        "layer": "\nlayer", "fvu": "\nFVU ↓", "coherence": "coherence ↑\nexcess, bits", "accuracy": "seen ↑  ",
    }  # fmt: skip
    assert list(marked(given)) == list(given)


def test_the_legend_names_the_arrows_that_there_are():
    assert legend({"f1": "F1", "layer": "layer"}) == "↑: more is better."
    assert legend({"fvu": "FVU"}) == "↓: less is better."
    assert legend({"f1": "F1", "fvu": "FVU"}) == "↑ ↓: more, or less, is better."
    assert legend({"layer": "layer"}) is None


@pytest.mark.parametrize("name", TABLES)
def test_nulls_and_tests_have_no_arrow(name):
    """A null is what a number is compared with, and its interval is the number's."""
    headings = marked(TABLES[name])
    assert len(headings) == len(TABLES[name])
    for key, heading in headings.items():
        has_arrow = MORE in heading or LESS in heading
        assert has_arrow == (key in _ARROWS)
        if heading.strip().startswith("~") or TABLES[name][key] in SURENESS or key.startswith("chance"):
            assert not has_arrow, key


def test_every_arrow_is_of_a_column_that_is_printed():
    assert set(_ARROWS) <= {key for columns in TABLES.values() for key in columns}


@pytest.mark.parametrize(
    "path", [path for path in Path(cli.__path__[0]).rglob("*.py") if "table(" in path.read_text()], ids=lambda p: p.stem
)
def test_whoever_names_such_a_column_marks_it(path):
    """What commands print of a finished study is looked at by test_text_forms; this is of all tables there are."""
    code = path.read_text()
    keys = {
        str(key.value)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
    }
    if keys & set(_ARROWS):
        assert f"from {better.__name__} import" in code, sorted(keys & set(_ARROWS))


def test_the_legend_stands_below_rows_and_not_in_json(capsys):
    columns = {"f1": "F1"}
    print_marked_rows([{"f1": 0.5}], columns, as_json=False, empty="none")
    assert capsys.readouterr().out.split("\n") == [" F1 ↑", "0.500", "", "↑: more is better.", ""]
    print_marked_rows([{"f1": 0.5}], columns, as_json=True, empty="none")
    assert "better" not in capsys.readouterr().out
    print_marked_rows([], columns, as_json=False, empty="none")
    assert capsys.readouterr().out == "none\n"
