"""The wheel alone, in an environment of its own and away from the checkout, runs the first layer of the demo.

The environment sees the third-party packages of the one that runs the tests, so that nothing is downloaded, but neither
its hsae nor the checkout. Takes a minute: a build, a private stack and one layer with both kinds of SAE.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
_INGREDIENTS = ("pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY_NOTICES.md", "services", "worker", "migrations")


def run(*command: object, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HSAE_", "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env={**clean, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False, timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a virtual environment that holds the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves files behind, and must not find those of an earlier one
    source.mkdir()
    for name in _INGREDIENTS:
        leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=leave_out)
        else:
            shutil.copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = folder.glob("hsae-*.whl")
    venv.create(folder / "environment", with_pip=False, symlinks=True)
    python = folder / "environment" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    shutil.rmtree(source)
    # A path in a .pth file is searched last and its own .pth files are not read: those would lead to the checkout.
    (own,) = (folder / "environment" / "lib").glob("python*/site-packages")
    (own / "third_party.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "environment"


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


def test_the_first_layer_of_the_demo(environment, tmp_path):
    admin, home = environment / "bin" / "hsae-admin", tmp_path / "home"
    assert run(admin, "--version", cwd=tmp_path).startswith("hsae-admin, version ")
    try:
        output = run(admin, "demo", "--home", home, "--layer", "0", cwd=tmp_path)
    finally:
        run(admin, "--home", home, "down", cwd=tmp_path)
    assert "relu SAE x8, cls of dinov2-emoji, emoji" in output
    assert "topk SAE x8, cls of dinov2-emoji, emoji" in output
    assert "Best latents of some nodes" in output
    assert (tmp_path / "demo-results" / "layers.png").is_file()
    assert (tmp_path / "demo-results" / "report.html").is_file()


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
