"""Postgres refuses to run as root, so root starts it under another user id, without making an account."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hsae.errors import UserError

_NOBODY = 65534
_CHECK_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Identity:
    """How to start a program so that it does not see itself as root: after `prefix`; files are `owner`'s."""

    prefix: tuple[str, ...]
    owner: int


# In a user namespace the process sees uid 65534 while its files stay root's. Where those are blocked (by
# Docker's default profile, say) a real change of the uid does; dac_override keeps the wheel and the private
# data folder, which may both lie under /root, within its reach.
_AS_ROOT = (
    Identity(("unshare", "-U", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--"), owner=0),
    Identity(
        (
            "setpriv",
            f"--reuid={_NOBODY}",
            f"--regid={_NOBODY}",
            "--clear-groups",
            "--inh-caps=+dac_override",
            "--ambient-caps=+dac_override",
            "--",
        ),
        owner=_NOBODY,
    ),
)


def unprivileged(binary: Path, home: Path) -> Identity:
    """The first identity under which `binary` can be executed and `home` written; an ordinary user's own one.

    Raises UserError where root has none.
    """
    if os.geteuid() != 0:
        return Identity((), os.geteuid())
    for identity in _AS_ROOT:
        # Exit status 0 takes all three: the change of identity, the write permission, the program.
        check = [
            *identity.prefix,
            "/bin/sh",
            "-c",
            'test -w "$1" && exec "$2" --version',
            "sh",
            str(home),
            str(binary),
        ]
        try:
            done = subprocess.run(
                check, capture_output=True, timeout=_CHECK_SECONDS, check=False, stdin=subprocess.DEVNULL
            )
        except OSError:  # not installed
            continue
        if done.returncode == 0:
            return identity
    raise UserError(
        "Postgres refuses to run as root and neither unshare nor setpriv (package util-linux) works here: "
        "run hsae-admin as an ordinary user"
    )


def give_folder_to(folder: Path, owner: int) -> None:
    """Make `owner` own the folder and everything in it, when it does not yet."""
    if folder.stat().st_uid == owner:
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            os.chown(Path(parent, name), owner, -1, follow_symlinks=False)
        if Path(parent) != folder:
            os.chown(parent, owner, -1)
    os.chown(folder, owner, -1)  # last: an interrupted change starts anew
