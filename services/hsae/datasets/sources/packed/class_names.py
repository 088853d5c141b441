"""Names for classes that a data set counts instead of naming."""

from collections.abc import Sequence
from pathlib import Path

from hsae.errors import UserError

_BESIDE = ("classes.txt", "classnames.txt", "labels.txt")


def class_names_of(given: str | None, folder: Path) -> tuple[str, ...] | None:
    """The names in a text file, one per line; line 1 is class 0.

    Args:
        given: the file; None: one of `classes.txt`, `classnames.txt` and `labels.txt` in the folder, if it is there.
        folder: where relative paths begin.

    Raises:
        UserError: the file cannot be read, or has an empty line.
    """
    candidates = [folder / name for name in _BESIDE] if given is None else [folder / given]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        if given is None:
            return None
        raise UserError(f"{candidates[0]}: there is no such file of class names")
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text with a class name per line ({error})") from error
    empty = [number for number, name in enumerate(names, start=1) if not name.strip()]
    if empty:
        raise UserError(f"{path}, line {empty[0]}: is empty; write one class name per line, for class 0 first")
    return tuple(name.strip() for name in names)


def name_of_class(number: int, names: Sequence[str] | None, where: str) -> str:
    """The name of a class that is given by its number.

    Raises:
        UserError: the classes have no names, or fewer.
    """
    if names is None:
        raise UserError(
            f"{where}: the label is the number {number}, and nothing names the classes; write their names into"
            f" {_BESIDE[0]} beside the files, one per line, or give that file as ?classes=FILE"
        )
    if not 0 <= number < len(names):
        raise UserError(f"{where}: the label is the number {number}, and there are {len(names)} class names")
    return names[number]
