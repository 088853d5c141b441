"""Start a program under another user id, because Postgres refuses to run as root; no account is created."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hsae.errors import UserError

_NOBODY = 65534
_CHECK_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Identity:
    """How to start a program that must not run as root: with the command `prefix`, on files of the user `owner`."""

    prefix: tuple[str, ...]
    owner: int


# In a user namespace the process sees uid 65534 while its files still belong to root. If user namespaces are blocked
# (for example by Docker's default profile), setpriv changes the uid; dac_override gives access to the wheel and the
# private data folder, which may both be below /root.
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
    """The first identity that can execute `binary` and write to `home`; for an ordinary user, the user's own.

    Raises:
        UserError: root has no such identity.
    """
    if os.geteuid() != 0:
        return Identity((), os.geteuid())
    for identity in _AS_ROOT:
        # Exit status 0 needs all three: the change of identity, write permission, and the program.
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
    """Make `owner` the owner of the folder and everything in it."""
    if folder.stat().st_uid == owner:
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            os.chown(Path(parent, name), owner, -1, follow_symlinks=False)
        if Path(parent) != folder:
            os.chown(parent, owner, -1)
    os.chown(folder, owner, -1)  # last, so that an interrupted change is repeated
