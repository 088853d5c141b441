"""What `import hsae` offers: cheap, complete, documented in the code and on its page."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import hsae
from hsae.errors import UserError

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
NAMES = [name for name in hsae.__all__ if name != "__version__"]
OWN = [name for name in NAMES if getattr(hsae, name).__module__.startswith("hsae.api")]


def test_importing_it_loads_nothing():
    code = "import sys; before = set(sys.modules); import hsae; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['hsae']\n"


def test_names_are_listed_once_for_everybody():
    tree = ast.parse(Path(hsae.__file__).read_text())
    typed = {
        alias.name: block.module
        for statement in tree.body
        if isinstance(statement, ast.If)
        for block in statement.body
        if isinstance(block, ast.ImportFrom)
        for alias in block.names
    }
    assert typed == hsae._PLACES
    assert sorted([*hsae._PLACES, "__version__"]) == sorted(hsae.__all__)
    assert set(hsae.__all__) <= set(dir(hsae))
    with pytest.raises(AttributeError, match="module 'hsae' has no attribute 'absent'"):
        hsae.absent  # noqa: B018
    assert hsae.__version__


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_threads_sleep_while_they_wait_unless_the_user_wants_otherwise(given, expected):
    """The variable is read when torch is loaded, so it is set before."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    code = "import sys, os, hsae.api; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", expected]


def public_members(name: str) -> list[tuple[str, object]]:
    """The methods and properties that a class defines, in their order."""
    value = getattr(hsae, name)
    if not inspect.isclass(value):
        return []
    kinds = (property, classmethod, staticmethod)
    return [
        (member, found)
        for one in reversed(value.__mro__)
        if one.__module__.startswith("hsae.")
        for member, found in vars(one).items()
        if not member.startswith("_") and (inspect.isfunction(found) or isinstance(found, kinds))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_docstring_and_stands_on_the_page(name):
    value = getattr(hsae, name)
    assert inspect.getdoc(value), name
    assert re.search(rf"\b{name}\b", PAGE), f"write {name} into docs/api.md"
    for member, found in public_members(name) if name in OWN else ():
        assert inspect.getdoc(found), f"{name}.{member}"
        assert re.search(rf"\b{member}\b", PAGE), f"write {name}.{member} into docs/api.md"


@pytest.mark.parametrize("name", OWN)
def test_every_argument_is_described(name):
    value = getattr(hsae, name)
    functions = [(name, value)] if inspect.isfunction(value) else public_members(name)
    for member, found in functions:
        if not inspect.isfunction(found):
            continue
        doc = inspect.getdoc(found) or ""
        given = [one for one in inspect.signature(found).parameters if one != "self"]
        for argument in given:
            assert re.search(rf"^\s+{argument}: |`{argument}` ", doc, re.MULTILINE), f"{member}({argument})"


def test_without_pandas_only_tables_are_refused(monkeypatch):
    pa.array(np.zeros(1))  # pyarrow looks for pandas once, and takes a None in sys.modules for it
    monkeypatch.setitem(sys.modules, "pandas", None)
    z = np.zeros((12, 2), np.float32)
    z[:4, 0] = z[4:8, 1] = 1
    labels = [name for name in ("a", "b", "c") for _ in range(4)]
    edges = [("a", "root"), ("b", "root"), ("c", "root")]
    scoring = hsae.ScoringConfig(controls=(), n_shuffles=1, n_replicates=2, n_tree_shuffles=2)
    scores = hsae.score(z, labels, taxonomy=edges, scoring=scoring)
    assert {row["synset"] for row in scores.latent_rows()} == {"a", "b"}
    assert scores.node_rows()
    assert scores.headline_rows()
    for table in (scores.latents, scores.nodes, scores.to_pandas):
        with pytest.raises(UserError) as refused:
            table()
        assert "pip install '.[notebook]'" in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_notebook_shows_an_error_without_its_traceback():
    error = UserError("no such study")
    assert error._render_traceback_() == ["UserError: no such study"]
