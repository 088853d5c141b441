"""Parts of the tests for the processes of pytest-xdist."""

from pathlib import Path

from tests import distribution

_ROOT = Path(__file__).parents[1]


def test_what_is_named_is_there():
    for folder in distribution.TOGETHER:
        assert (_ROOT / folder / "conftest.py").is_file(), folder
    for start in distribution.LONGEST:
        assert (_ROOT / start).is_dir() or (_ROOT / f"{start}.py").is_file(), start


def test_a_folder_that_shares_a_study_is_one_part_and_any_other_file_is_one():
    assert distribution.part_of("tests/explorer/test_pages.py::test_a[x::y]") == "tests/explorer"
    assert distribution.part_of("tests/report/page/test_report.py::test_a") == "tests/report/page"
    assert distribution.part_of("tests/report/test_figure.py::test_a") == "tests/report/test_figure.py"


def test_what_takes_longest_comes_first():
    names = ["tests/taxonomy/test_wordnet.py::a", "tests/cli/test_commands.py::a", "tests/faults/test_bit_rot.py::a"]
    assert sorted(names, key=distribution.rank) == names[::-1]
    assert distribution.rank("tests/cli/submit/test_submit.py::a") < distribution.rank("tests/cli/test_commands.py::a")
