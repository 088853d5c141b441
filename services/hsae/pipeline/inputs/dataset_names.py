"""Names of data sets, and the data set that a name means: the same rules for every command."""

import difflib
import unicodedata

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsae.catalog import Dataset
from hsae.errors import UserError

_MAX_LENGTH = 200
_CHOOSE = "choose one such as birds-2024, of letters, digits and signs but no /"


class NameTakenError(UserError):
    """The name belongs to a data set of other images or labels."""


def check_name(name: str) -> str:
    """The name of a new data set, in Unicode form NFC, in which names are kept.

    Raises:
        UserError: the name could be taken for a path or an option, or a person could not type or read it.
    """
    shown = ascii(name) if not name.isprintable() else repr(name)
    if not name.strip():
        problem = "it is blank"
    elif "/" in name or "\\" in name or name in {".", ".."}:
        problem = "it would be taken for a path"
    elif name != name.strip():
        problem = "it begins or ends with a space"
    elif not name.isprintable():
        problem = "it holds characters that cannot be printed"
    elif name.startswith("-"):
        problem = "it would be taken for an option"
    elif len(name) > _MAX_LENGTH:
        shown, problem = f"{name[:20]!r}...", f"it has {len(name)} characters, more than {_MAX_LENGTH}"
    else:
        return unicodedata.normalize("NFC", name)
    raise UserError(f"{shown} is no name for a data set, since {problem}: {_CHOOSE}")


def find_dataset(session: Session, name: str, *, lock: bool = False) -> Dataset:
    """The data set of that name; with `lock` its row is locked until the transaction ends.

    Raises:
        UserError: there is none.
    """
    if _can_be_kept(name):
        query = select(Dataset).where(Dataset.name.in_({name, unicodedata.normalize("NFC", name)}))
        found = session.scalars(query.with_for_update() if lock else query).all()
        for dataset in sorted(found, key=lambda dataset: dataset.name != name):
            return dataset
    known = session.scalars(select(Dataset.name).order_by(Dataset.id)).all()
    close = difflib.get_close_matches(name, known, n=1)
    shown = name if name.isprintable() else ascii(name)
    raise UserError(
        f"there is no data set {shown}{f' (did you mean {close[0]}?)' if close else ''}: register one with"
        " `hsae-admin dataset add NAME PATH`" + (f" (registered: {', '.join(known)})" if known else "")
    )


def dataset_or_first(session: Session, name: str | None) -> Dataset:
    """The data set of that name; without a name the first registered one, which is the default everywhere.

    Raises:
        UserError: there is none.
    """
    if name is not None:
        return find_dataset(session, name)
    first = session.scalars(select(Dataset).order_by(Dataset.id)).first()
    if first is None:
        raise UserError("no data set is registered: register one with `hsae-admin dataset add NAME PATH`")
    return first


def _can_be_kept(name: str) -> bool:
    """Whether Postgres can store the name: UTF-8 without NUL."""
    try:
        return "\0" not in name and bool(name.encode())
    except UnicodeEncodeError:
        return False
