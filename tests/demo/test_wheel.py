"""The wheel alone, in an environment of its own and away from the checkout, runs the demo as docs/demo.md shows it.

The environment sees the third-party packages of the one that runs the tests, so that nothing is downloaded, but neither
its hsae nor the checkout. Takes minutes: a build, a private stack, and every layer with both kinds of SAE.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsae.demo import backbone_folder
from tests.demo.conftest import DemoRun, run_demo
from tests.demo.test_demo import check_what_it_says

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

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


@pytest.fixture(scope="module")
def whole_demo(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRun]:
    """`hsae-admin demo`: every layer of the bundled backbone, both kinds of SAE."""
    with run_demo(tmp_path_factory, (), (str(environment / "bin" / "hsae-admin"),)) as demo:
        yield demo


def test_the_whole_demo_says_everything(whole_demo):
    n_layers = json.loads((backbone_folder() / "config.json").read_text())["num_hidden_layers"]
    check_what_it_says(whole_demo, range(n_layers))
    assert whole_demo.admin("--version").stdout.startswith("hsae-admin, version ")


@pytest.fixture(scope="module")
def compared(whole_demo):
    """The comparison of the demo's study, as `results study` has it."""
    return json.loads(whole_demo.admin("results", "study", "--json").stdout)


def test_coherence_rises_with_depth_where_the_demo_says_so(whole_demo, compared):
    """For TopK; for ReLU its interval contains 0, as docs/demo.md says."""
    trends = {row["sae"].split()[0]: row for row in compared["trends"] if row["metric"] == "coherence_excess"}
    assert set(trends) == {"relu", "topk"}
    assert trends["topk"]["n_layers"] == 6
    assert trends["topk"]["ci_low"] > 0
    lines = {line.split()[0]: line for line in whole_demo.output.splitlines() if "bits per block" in line}
    for kind, row in trends.items():
        assert f"coherence excess {row['slope']:+.3f} bits per block, 95% interval" in lines[kind]
        assert lines[kind].endswith("yes" if row["ci_low"] > 0 else "not shown")


def test_coherence_stands_beside_exemplars_with_intervals(compared):
    scores = {
        (row["layer"], row["sae"].split()[0], row["basis"]): row
        for row in compared["scores"]
        if row["metric"] == "coherence_excess"
    }
    for layer in range(6):
        for kind in ("relu", "topk"):
            for basis in ("sae", "exemplar"):
                row = scores[layer, kind, basis]
                assert row["ci_low"] < row["value"] < row["ci_high"]
            assert scores[layer, kind, "sae"]["ci_low"] > 0  # above chance in every block


def test_layers_are_compared_at_equal_sparsity(whole_demo):
    rows = json.loads(whole_demo.admin("results", "layers", "--json").stdout)
    assert all(row["holdout_l0"] == pytest.approx(16, rel=0.1) for row in rows)
    assert "Warning" not in whole_demo.output
