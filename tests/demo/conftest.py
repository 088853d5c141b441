"""The demo, run as a user runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from hsae.cli.main import cli

ADMIN = (sys.executable, "-c", "from hsae.cli.main import main; main()")


@dataclass(frozen=True)
class DemoRun:
    """A finished demo: where it keeps its data, and what it printed."""

    home: Path
    output: str
    pictures: Path
    layers: tuple[int, ...]
    program: tuple[str, ...] = ADMIN

    def options(self) -> list[str]:
        """The options that the demo was run with."""
        return [word for layer in self.layers for word in ("--layer", str(layer))]

    def query(self, sql: str) -> list[dict[str, object]]:
        """Ask the demo's database by `hsae-admin db query`, in this process."""
        done = CliRunner().invoke(cli, ["--home", str(self.home), "db", "query", sql, "--json"])
        assert done.exit_code == 0, f"{sql}\n{done.output}"
        return json.loads(done.stdout)

    def admin(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run hsae-admin against the demo's stack; fails the test when it fails and that is to be checked."""
        done = subprocess.run(
            [*self.program, "--home", str(self.home), *map(str, arguments)],
            capture_output=True, text=True, env=_environment(self.program), cwd=self.pictures, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done


def _environment(program: tuple[str, ...]) -> dict[str, str]:
    """Without variables that name servers; another program than the checkout's does not see the checkout either."""
    left_out = ("HSAE_",) if program == ADMIN else ("HSAE_", "PYTHON")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**clean, "HF_HUB_OFFLINE": "1"}


@contextmanager
def run_demo(
    tmp_path_factory: pytest.TempPathFactory, layers: tuple[int, ...], program: tuple[str, ...] = ADMIN
) -> Iterator[DemoRun]:
    """Run `hsae-admin demo` in a home of its own; its stack is stopped at the end."""
    home, pictures = tmp_path_factory.mktemp("demo-home"), tmp_path_factory.mktemp("demo-output")
    options = DemoRun(home, "", pictures, layers).options()
    try:
        done = subprocess.run(
            [*program, "demo", "--home", str(home), "--output", str(pictures), *options],
            capture_output=True, text=True, env=_environment(program), cwd=pictures, timeout=1700,
        )  # fmt: skip
        logs = "\n".join(path.read_text(errors="replace")[-5000:] for path in (home / "logs").glob("worker*.log"))
        assert done.returncode == 0, done.stdout + done.stderr + logs
        yield DemoRun(home, done.stdout + done.stderr, pictures, layers, program)
    finally:
        subprocess.run(
            [*program, "down", "--home", str(home)], env=_environment(program), check=True, cwd=pictures, timeout=120
        )


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRun]:
    """The demo of two layers."""
    with run_demo(tmp_path_factory, (1, 5)) as run:
        yield run
