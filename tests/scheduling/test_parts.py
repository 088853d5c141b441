"""Parts of the tests for the processes of pytest-xdist."""

from pathlib import Path

from tests.scheduling import parts

_ROOT = Path(__file__).parents[2]


def test_what_is_named_is_there():
    for folder in parts.TOGETHER:
        assert (_ROOT / folder / "conftest.py").is_file(), folder
    for start in parts.LONGEST:
        assert (_ROOT / start).is_dir() or (_ROOT / f"{start}.py").is_file(), start


def test_a_folder_that_shares_a_study_is_one_part_and_any_other_file_is_one():
    assert parts.part_of("tests/explorer/test_pages.py::test_a[x::y]") == "tests/explorer"
    assert parts.part_of("tests/report/page/test_report.py::test_a") == "tests/report/page"
    assert parts.part_of("tests/report/test_figure.py::test_a") == "tests/report/test_figure.py"
    assert parts.part_of("tests/faults/test_bit_rot.py::test_a[x-y]") == "tests/faults/test_bit_rot.py::test_a"


def test_what_takes_longest_comes_first():
    names = ["tests/taxonomy/test_wordnet.py::a", "tests/cli/test_commands.py::a", "tests/faults/test_bit_rot.py::a"]
    assert sorted(names, key=parts.rank) == names[::-1]
    assert parts.rank("tests/cli/submit/test_submit.py::a") < parts.rank("tests/cli/test_commands.py::a")
