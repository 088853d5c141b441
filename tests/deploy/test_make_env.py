"""deploy/make-env: secrets nobody else can read, never the same, never overwritten."""

import re
import stat
import subprocess
from pathlib import Path

from tests.deploy import compose_files as compose


def make_env(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([compose.ROOT / "deploy/make-env", *arguments], capture_output=True, text=True, check=False)


def read(file: Path) -> dict[str, str]:
    lines = (line for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def test_it_writes_every_secret_that_compose_requires(tmp_path: Path) -> None:
    assert make_env(tmp_path / ".env").returncode == 0
    required = {name for name, operator, _ in compose.variables(compose.MAIN) if operator == ":?"}
    assert set(read(tmp_path / ".env")) == required


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'umask 000; exec "$0" "$1"', compose.ROOT / "deploy/make-env", tmp_path / ".env"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [".env"]


def test_secrets_are_long_random_and_need_no_quoting(tmp_path: Path) -> None:
    make_env(tmp_path / "one")
    make_env(tmp_path / "two")
    values = [*read(tmp_path / "one").values(), *read(tmp_path / "two").values()]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in values)


def test_it_prints_no_secret(tmp_path: Path) -> None:
    done = make_env(tmp_path / ".env")
    assert not any(value in done.stdout + done.stderr for value in read(tmp_path / ".env").values())


def test_it_keeps_an_existing_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=known\n")
    done = make_env(tmp_path / ".env")
    assert done.returncode == 1
    assert "kept" in done.stderr
    assert (tmp_path / ".env").read_text() == "POSTGRES_PASSWORD=known\n"
    assert [file.name for file in tmp_path.iterdir()] == [".env"]


def test_it_explains_itself(tmp_path: Path) -> None:
    assert make_env("--help").returncode == 2
    done = make_env(tmp_path / "absent" / ".env")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr


def test_git_and_the_build_never_see_it() -> None:
    assert ".env" in (compose.ROOT / ".gitignore").read_text().splitlines()
    ignored = (compose.ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert "!.env" not in ignored
