"""Tables that fit: which columns stay, and that nothing is broken."""

import pytest
from rich.console import Console
from rich.progress_bar import ProgressBar

from hsae.cli.printing.output import print_rows, table
from hsae.cli.printing.table import Column, FittedTable, Need, fit

ROWS = [
    {"synset": "soft-coated_wheaten_terrier.n.01", "f1": 0.5, "latent": 17, "why": "the sentence goes on and on"},
    {"synset": "雪豹.n.01", "f1": None, "latent": 2, "why": "-"},
]
COLUMNS = {"latent": "latent", "synset": "node", "f1": "best\nF1", "why": "last error"}


def lines(renderable, width: int) -> list[str]:
    console = Console(width=width, legacy_windows=False)
    with console.capture() as capture:
        console.print(renderable, crop=False)
    return [line.rstrip() for line in capture.get().rstrip("\n").split("\n")]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (100, {"a": 10, "b": 30, "c": 5}),
        (49, {"a": 10, "b": 30, "c": 5}),
        (48, {"a": 10, "b": 29, "c": 5}),
        (39, {"a": 10, "b": 20, "c": 5}),
        (38, {"a": 10, "b": 26}),
        (30, {"a": 10, "c": 5}),
        (9, {"a": 10}),
    ],
)
def test_which_columns_fit(width, expected):
    assert fit([Need("a", 10, 10), Need("b", 20, 30), Need("c", 5, 5)], width) == expected


def test_whole_where_there_is_room():
    assert lines(table(ROWS, COLUMNS, "A title that is longer than the table is wide " * 3, prose={"why"}), 1000) == [
        ("A title that is longer than the table is wide " * 3).rstrip(),
        "                                           best",
        "latent  node                                 F1  last error",
        "    17  soft-coated_wheaten_terrier.n.01  0.500  the sentence goes on and on",
        "     2  雪豹.n.01                             -  -",
    ]  # fmt: skip


def test_no_line_ends_in_spaces():
    columns = {"f1": "best\nF1", "latent": "latent", "synset": "node"}
    console = Console(width=1000, legacy_windows=False)
    with console.capture() as capture:
        console.print(table(ROWS, columns), crop=False)
    assert capture.get().splitlines() == [
        " best",
        "   F1  latent  node",
        "0.500      17  soft-coated_wheaten_terrier.n.01",
        "    -       2  雪豹.n.01",
    ]


def test_columns_are_left_out_by_importance_and_said():
    found = lines(table(ROWS, COLUMNS, importance=("synset", "f1"), prose={"why"}), 50)
    assert [line.split() for line in found[:4]] == [
        ["best"],
        ["latent", "node", "F1"],
        ["17", "soft-coated_wheaten_terrier.n.01", "0.500"],
        ["2", "雪豹.n.01", "-"],
    ]
    assert " ".join(found[4:]) == "Left out at 50 columns: last error; a wider terminal or `| less -S` shows them."
    found = lines(table(ROWS, COLUMNS, importance=("synset", "f1"), prose={"why"}), 20)
    assert found[1] == "soft-coated_wheaten_terrier.n.01"
    assert "latent, best F1, last error" in " ".join(found[3:])


def test_sentences_go_on_between_words():
    found = lines(table(ROWS, COLUMNS, importance=("synset", "why"), prose={"why"}), 50)
    assert found[1:3] == ["soft-coated_wheaten_terrier.n.01  the sentence", " " * 34 + "goes on and on"]


def test_a_heading_that_stands_twice_is_named_by_its_key():
    row = {"name": "x" * 30, "f1": 1.0, "f1_control": 1.0, "f2": 1.0, "f2_control": 1.0}
    columns = {"name": "name", "f1": "F1", "f1_control": "~tree", "f2": "F2", "f2_control": "~tree"}
    assert "Left out at 45 columns: F2, f2_control;" in " ".join(lines(table([row], columns), 45))


def test_a_bar_and_cells_that_are_cut():
    columns = [Column("what", "what", breaks="middle"), Column("bar", "bar"), Column("why", "why", breaks="end")]
    rows: list[list[str | ProgressBar]] = [
        ["a beginning that is long and the end of it", ProgressBar(total=2, completed=2, width=10), "y" * 99]
    ]
    found = lines(FittedTable(columns, rows, one_line_note=True), 64)
    assert found[1] == f"a beginning that…end of it  {'━' * 10}  {'y' * 23}…"
    assert lines(FittedTable(columns, rows, one_line_note=True), 20)[-1] == "Left out at 20 colu…"


def test_a_pipe_gets_everything(capsys):
    row = {"name": "n" * 300, "definition": "words " * 100, "list": [1, {"a": "é"}], "nothing": None}
    print_rows([row], {name: name for name in row}, as_json=False, empty="", prose={"definition"})
    _, line = capsys.readouterr().out.splitlines()
    assert line.split() == ["n" * 300, *["words"] * 100, "[1,", '{"a":', '"é"}]', "-"]
