"""The wheel alone, away from the checkout: what is in it, and how a program that uses it is type-checked."""

import sys
import sysconfig
from pathlib import Path

from tests.demo.conftest import ROOT, run


def test_nothing_comes_from_the_checkout(environment, tmp_path):
    code = (
        "import hsae, hsae_worker, hsae_migrations, sys\n"
        "print(*(module.__file__ for module in (hsae, hsae_worker, hsae_migrations)), *sys.path, sep='\\n')"
    )
    lines = run(environment / "bin" / "python", "-c", code, cwd=tmp_path).splitlines()
    for file in lines[:3]:
        assert Path(file).is_relative_to(environment)
    explorer = Path(lines[0]).parent / "explorer"
    assert {"base.html", "latents.html"} <= {path.name for path in (explorer / "templates").iterdir()}
    assert {"explorer.css", "explorer.js"} <= {path.name for path in (explorer / "static").iterdir()}
    third_party = sysconfig.get_paths()["purelib"]
    assert not [path for path in lines[3:] if Path(path).is_relative_to(ROOT) and path != third_party]


_CONSUMER = """\
import hsae_worker.app
from hsae.settings import Settings
from hsae.store.objects import ObjectStore
from hsae.taxonomy import induce, load_taxonomy


def n_nodes(classes: list[str]) -> int:
    wordnet = load_taxonomy()
    return len(induce(wordnet, [wordnet.resolve(name).id for name in classes]).synsets)


reveal_type(ObjectStore.from_settings(Settings()).put("a", b"").n_bytes)
print(n_nodes(["dog.n.01"]), hsae_worker.app.__name__)
"""


def test_a_program_that_uses_the_wheel_is_type_checked_strictly(environment, tmp_path):
    """Without `py.typed` in both packages mypy would take everything of theirs for Any, and refuse the imports."""
    consumer = tmp_path / "consumer.py"
    consumer.write_text(_CONSUMER)
    output = run(
        sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache",
        "--python-executable", environment / "bin" / "python", consumer, cwd=tmp_path,
    )  # fmt: skip
    assert 'Revealed type is "int"' in output
    assert "Success: no issues found" in output
