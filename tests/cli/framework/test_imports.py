"""Commands import what they need at the top of their file; an import in a function says why it stands there."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hsae.cli

FOLDER = Path(hsae.cli.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))


def imports_in_functions(tree: ast.Module) -> Iterator[int]:
    """The line of the first of every run of imports in a function."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for block in ast.walk(function):
                body = getattr(block, "body", None)
                for before, statement in zip([None, *body], body, strict=False) if isinstance(body, list) else ():
                    is_import = isinstance(statement, ast.Import | ast.ImportFrom)
                    if is_import and not isinstance(before, ast.Import | ast.ImportFrom):
                        yield statement.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_an_import_in_a_function_says_why(path):
    text = path.read_text()
    lines = text.splitlines()
    for number in imports_in_functions(ast.parse(text)):
        above = lines[number - 2].strip()
        assert above.startswith("# "), f"{path}:{number}: say in a comment above why this is not imported at the top"
