"""The demo, run as a user runs it: from the wheel alone, in an environment of its own and away from the checkout.

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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from hsae.cli.main import cli

ROOT = Path(__file__).parents[2]
_INGREDIENTS = ("pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY_NOTICES.md", "services", "worker", "migrations")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All but what reads files alone is `slow`."""
    for item in items:
        if {"demo", "environment"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(2400))  # the demo itself is part of the first test


def run(*command: object, cwd: Path) -> str:
    """Run a command away from the checkout, without variables that lead to it; what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=_clean_environment(), capture_output=True, text=True, check=False, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _clean_environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HSAE_", "PYTHON"))}
    return {**clean, "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class DemoRun:
    """A finished demo: the program, where it keeps its data, and what it printed."""

    program: Path
    home: Path
    output: str
    pictures: Path

    def query(self, sql: str) -> list[dict[str, object]]:
        """Ask the demo's database by `hsae-admin db query`, in this process."""
        done = CliRunner().invoke(cli, ["--home", str(self.home), "db", "query", sql, "--json"])
        assert done.exit_code == 0, f"{sql}\n{done.output}"
        return json.loads(done.stdout)

    def admin(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run hsae-admin against the demo's stack; fails the test when it fails and that is to be checked."""
        done = subprocess.run(
            [self.program, "--home", str(self.home), *map(str, arguments)],
            capture_output=True, text=True, env=_clean_environment(), cwd=self.pictures, timeout=1200,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done


@contextmanager
def _run_demo(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRun]:
    """Run `hsae-admin demo` in a home of its own; its stack is stopped at the end."""
    home, pictures = tmp_path_factory.mktemp("demo-home"), tmp_path_factory.mktemp("demo-output")
    try:
        done = subprocess.run(
            [program, "demo", "--home", str(home), "--output", str(pictures)],
            capture_output=True, text=True, env=_clean_environment(), cwd=pictures, timeout=1700,
        )  # fmt: skip
        logs = "\n".join(path.read_text(errors="replace")[-5000:] for path in (home / "logs").glob("worker*.log"))
        assert done.returncode == 0, done.stdout + done.stderr + logs
        yield DemoRun(program, home, done.stdout + done.stderr, pictures)
    finally:
        run(program, "down", "--home", home, cwd=pictures)


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def demo(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRun]:
    """`hsae-admin demo` from the wheel: every layer of the bundled backbone, both kinds of SAE."""
    with _run_demo(environment / "bin" / "hsae-admin", tmp_path_factory) as finished:
        yield finished
