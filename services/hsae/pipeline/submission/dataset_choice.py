"""The data set that `submit --dataset` means: a registered one by its name, or images by their path or URI."""

import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from hsae.catalog import Dataset, transaction
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.inputs.dataset_names import check_name, dataset_or_first

if TYPE_CHECKING:
    from hsae.pipeline.submission.registration import Registration

_FILES = (".csv", ".parquet", ".arrow", ".tar")
_HUB = "hf:"
_WILDCARD = re.compile(r"[-_.]?[*?\[{]")


@dataclass(frozen=True, slots=True)
class Choice:
    """What `--dataset` means: a registered data set, or images to register.

    Attributes:
        name: the name of a registered data set; None: the default, or images to register.
        location: an absolute path or URI.
        registered_as: the names of data sets that were registered from there.
        option: what the user gave it by.
    """

    name: str | None = None
    location: str | None = None
    registered_as: tuple[str, ...] = ()
    option: str = "--dataset"


def choose_dataset(
    connections: Connections, given: str | None, *, register: bool = True, option: str = "--dataset"
) -> Choice:
    """Distinguish a name from a path, without reading an image. A value with a slash is a path or a URI.

    `option` is the one that gave the value, for messages.

    Raises:
        UserError: a name is registered and another folder or CSV of that name is here, or neither exists; there is no
            image source for the URI; images would have to be registered and must not be.
    """
    if given is None:
        require_registered(connections, None)
        return Choice()
    roots = _registered_roots(connections)
    if _is_uri(given):
        # scipy and pyarrow come with it, half a second: a name or a path does without.
        from hsae.datasets import local_path, source_at

        local = local_path(given)
        if local is None:
            root = source_at(given).root
            names = (name for name, registered in roots.items() if registered == root)
            return _choice(given, names, option, register=register)
        given = str(local)
    path = Path(given)
    name = next((form for form in (given, unicodedata.normalize("NFC", given)) if form in roots), None)
    is_path = os.sep in given or given in {".", ".."}
    if not is_path and name is not None:
        if _is_dataset(path) and not _is_at(path, roots[name]):
            raise UserError(
                f"{option} {given} is ambiguous: {name} is registered (images of {roots[name]}), and a different"
                f" {'file' if _is_file(path) else 'folder'} lies here, {path.absolute()}: write {option} ./{given} for"
                f" what lies here, or register it with `hsae-admin dataset add NAME ./{given}`; for the registered one"
                f" submit from another folder, or rename it: `hsae-admin dataset rename {name} NEW`"
            )
        return Choice(name=name)
    if not given or _mode(path) is None:
        if is_path:
            # scipy and pyarrow come with it, half a second that only this message pays.
            from hsae.datasets.sources.similar_names import similar_name_hint

            raise UserError(f"{option} {given}: there is no such folder or file{similar_name_hint(path)}")
        require_registered(connections, given)
    path = path.resolve()
    names = (name for name, root in roots.items() if _is_registered_from(name, root, path))
    return _choice(str(path), names, option, register=register)


def _choice(location: str, registered_as: Iterable[str], option: str, *, register: bool) -> Choice:
    """The choice of a location; among the names its own one comes first."""
    own = _own_name(location)
    names = tuple(sorted(registered_as, key=lambda name: name != own))
    if not names and not register:
        raise UserError(
            f"{location} is not registered yet, and a dry run registers nothing:"
            f" `hsae-admin dataset add NAME {location}`"
        )
    return Choice(location=location, registered_as=names, option=option)


def require_registered(connections: Connections, name: str | None) -> None:
    """Check that a data set has the name, or, without a name, that there is a data set.

    Raises:
        UserError: there is none.
    """
    with transaction(connections.sessions) as session:
        dataset_or_first(session, name)


def settle_dataset(
    connections: Connections, choice: Choice, *, register: bool
) -> "tuple[str | None, Registration | None]":
    """The name of the chosen data set. A path or URI is registered, under its own name unless other images have that.

    Raises:
        UserError: it cannot be registered.
    """
    if choice.location is None:
        return choice.name, None
    if not register:
        return choice.registered_as[0], None
    try:
        own = check_name(_own_name(choice.location))
    except UserError as error:
        raise UserError(
            f"{error}; give {choice.location} a name with `hsae-admin dataset add NAME {choice.location}`"
        ) from error
    # scipy and pyarrow come with it, half a second: a submit of a registered data set does without.
    from hsae.pipeline.submission.registration import register_under_own_name

    registration = register_under_own_name(
        connections, own, choice.location, registered_as=choice.registered_as, option=choice.option
    )
    return str(registration.dataset.name), registration


def _registered_roots(connections: Connections) -> dict[str, str]:
    with transaction(connections.sessions) as session:
        query = select(Dataset.name, Dataset.root).order_by(Dataset.id)
        return {row.name: row.root for row in session.execute(query)}


def _own_name(location: str) -> str:
    """The name of a folder, file or URI itself; from a name such as imagenet.v1.0 nothing is dropped.

    From the end of a URI that names files, such as train-*.parquet?label=breed, the settings, the suffix and what
    follows the first wildcard are dropped.
    """
    if _is_uri(location):
        name = location.partition("?")[0].rstrip("/").rsplit("/", 1)[1]
        if location.lower().startswith(_HUB):
            return name.partition(":")[0]
        suffix = Path(name).suffix.lower()
        return _WILDCARD.split(name.removesuffix(suffix))[0] or name if suffix in _FILES else name
    path = Path(location)
    return path.stem if _is_file(path) else path.name


def _is_uri(given: str) -> bool:
    return "://" in given or given.lower().startswith(_HUB)


def _is_file(path: Path) -> bool:
    """Whether the path is a file that lists or holds images."""
    return path.suffix.lower() in _FILES and stat.S_ISREG(_mode(path) or 0)


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and stat.S_ISREG(_mode(path) or 0)


def _is_dataset(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path) or 0) or _is_file(path)


def _mode(path: Path) -> int | None:
    """The kind of a file; None if there is none, or none that can be read."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None


def _is_at(path: Path, root: str) -> bool:
    """Whether a folder, or the folder of a CSV, is the one from which a data set was registered."""
    resolved = path.resolve()
    return str(resolved.parent if _is_csv(path) else resolved) == os.path.realpath(root)


def _is_registered_from(name: str, root: str, path: Path) -> bool:
    """Whether a data set is registered from a path.

    Only a CSV's folder is stored, so a CSV counts under its own name only.
    """
    return _is_at(path, root) and (not _is_csv(path) or name == _own_name(str(path)))
