"""Rules for all code: sizes that can be read at once, imports at the top, one word for one thing."""

import ast
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_MAX_LINES = 300
_MAX_FILES = 12
_MAX_PARAMETERS = 7
_INDENTED_IMPORT = re.compile(r"^ +(import|from) \w", re.MULTILINE)
_WORDS = re.compile(r"\b(alike|likeness|kin|mend|mends|mended|bells|doorbell|rang|rung|not_rung)\b", re.IGNORECASE)


def _files() -> list[Path]:
    """The code of the service; migrations stand apart."""
    return sorted(path for root in ("services", "worker") for path in (_ROOT / root).rglob("*.py"))


def _checks() -> list[Path]:
    """The tests and the benchmarks, read as often as the code."""
    return sorted(path for root in ("tests", "benchmarks") for path in (_ROOT / root).rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(_ROOT).as_posix()


def _beyond(found: dict[str, int], most: int) -> str:
    """Those that are too large, one a line."""
    return "\n".join(f"{name}: {n}" for name, n in found.items() if n > most)


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function of a file with the number of its parameters, `self` and `cls` left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            names = [parameter.arg for parameter in parameters if parameter is not None]
            yield f"{_name(path)}: {node.name}", len([name for name in names if name not in ("self", "cls")])


def test_no_file_is_longer_than_a_person_reads_at_once():
    files = [*_files(), *_checks()]
    too_long = _beyond({_name(path): len(path.read_text().splitlines()) for path in files}, _MAX_LINES)
    assert not too_long, f"files of more than {_MAX_LINES} lines:\n{too_long}"


def test_no_folder_has_more_files_than_a_person_overlooks():
    folders = {path.parent for path in (*_files(), *_checks())}
    too_full = _beyond({_name(folder): len(list(folder.glob("*.py"))) for folder in sorted(folders)}, _MAX_FILES)
    assert not too_full, f"folders of more than {_MAX_FILES} Python files:\n{too_full}"


def test_no_function_takes_more_than_a_few_parameters():
    """A command's function has a parameter per option, so the command line is left out."""
    functions: dict[str, int] = {}
    for path in (*_files(), *_checks()):
        if "services/hsae/cli/" not in _name(path):
            for name, n in _functions(path):
                functions[name] = max(n, functions.get(name, 0))
    too_many = _beyond(functions, _MAX_PARAMETERS)
    assert not too_many, f"functions of more than {_MAX_PARAMETERS} parameters:\n{too_many}"


def _imports_in_functions(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """The first and the last line of every run of imports in a function."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for block in ast.walk(function):
                for name in ("body", "orelse", "finalbody"):
                    statements = getattr(block, name, None)
                    for is_import, run in groupby(statements if isinstance(statements, list) else (), _is_import):
                        first, *others = run
                        if is_import:
                            yield first.lineno, [first, *others][-1].end_lineno


def _is_import(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import | ast.ImportFrom)


def test_an_import_in_a_function_says_why():
    """In a comment above or beside it. That kinds of SAE import torch in their methods, `SaeVariant` says for all."""
    silent = set()
    for path in _files():
        if "services/hsae/sae/variants/" not in _name(path):
            text = path.read_text()
            lines = text.splitlines()
            tree = ast.parse(text) if _INDENTED_IMPORT.search(text) else ast.Module([], [])
            for first, last in _imports_in_functions(tree):
                if not lines[first - 2].strip().startswith("# ") and not any(
                    "  # " in it for it in lines[first - 1 : last]
                ):
                    silent.add(f"{_name(path)}:{first}")
    assert not silent, "say in a comment why this is not imported at the top:\n" + "\n".join(sorted(silent))


def test_one_word_for_one_thing():
    """Similar, fix and notify: not their quaint synonyms."""
    pages = sorted((*(_ROOT / "docs").rglob("*.md"), *_ROOT.glob("*.md")))
    found = [
        f"{_name(path)}:{number}: {line.strip()}"
        for path in (*_files(), *_checks(), *pages)
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if _WORDS.search(line)
    ]
    assert not found, "say similar, similarity, fix or notify:\n" + "\n".join(found)


def test_the_default_of_a_field_is_named():
    """`Field(default=0, ge=0)`: type checkers and readers take a value without a name for something else."""
    unnamed = [
        f"{_name(path)}:{node.lineno}"
        for path in _files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Field" and node.args
    ]
    assert not unnamed, "write Field(default=...):\n" + "\n".join(unnamed)
