"""Names for classes that a data set counts instead of naming."""

from collections.abc import Callable, Sequence
from pathlib import Path
from reprlib import Repr
from typing import Any

from hsae.errors import UserError

_shown = Repr()
_shown.maxstring = _shown.maxother = 60
_MOST_DIGITS = 18
_MOST_CHARACTERS = 1000
_BESIDE = ("classes.txt", "classnames.txt", "labels.txt")


def class_names_of(given: str | None, folder: Path) -> tuple[str, ...] | None:
    """The names in a text file of this machine; see `class_names_from`. `folder`: where relative paths begin."""

    def read(name: str) -> bytes | None:
        path = folder / name
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error

    return class_names_from(given, read, lambda name: str(folder / name))


def class_names_from(
    given: str | None, read: Callable[[str], bytes | None], where: Callable[[str], str]
) -> tuple[str, ...] | None:
    """The names in a text file, one per line; line 1 is class 0.

    Args:
        given: the file; None: one of `classes.txt`, `classnames.txt` and `labels.txt`, if it is there.
        read: gives a file by its name, None where there is none.
        where: the place of a file, for messages.

    Raises:
        UserError: the file cannot be read, or has an empty line.
    """
    name, content = next(
        ((name, found) for name in (_BESIDE if given is None else (given,)) if (found := read(name)) is not None),
        (given, None),
    )
    if content is None or name is None:
        if name is None:
            return None
        raise UserError(f"{where(name)}: there is no such file of class names")
    try:
        names = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{where(name)}: cannot be read as UTF-8 text with a class name per line ({error})") from error
    empty = [number for number, line in enumerate(names, start=1) if not line.strip()]
    if empty:
        raise UserError(f"{where(name)}, line {empty[0]}: is empty; write one class name per line, for class 0 first")
    return tuple(line.strip() for line in names)


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


def text_of_label(label: Any, names: Sequence[str] | None, where: str) -> str:
    """The text of a label that is a text or the number of a class.

    Raises:
        UserError: it is something else, or its class has no name.
    """
    if isinstance(label, int) and not isinstance(label, bool):
        return name_of_class(label, names, where)
    if not isinstance(label, str):
        raise UserError(f"{where}: the label {_shown.repr(label)} is neither text nor a whole number")
    if len(label) > _MOST_CHARACTERS:
        raise UserError(f"{where}: the label {_shown.repr(label)} has {len(label):,} characters, which is no class")
    return label.strip()


def text_of_group(group: Any, where: str) -> str | None:
    """The text of an image's group; None: it has none.

    Raises:
        UserError: it is no single value.
    """
    if isinstance(group, bytes | dict | list):
        raise UserError(f"{where}: the group {_shown.repr(group)} is no text and no number")
    return None if group is None else str(group)


class LabelKinds:
    """Counts labels that are numbers of classes and labels that are names; a data set has one of the two.

    Numbers among names are rows that another program wrote, perhaps with another order of the classes. A number whose
    name is this number is both: classes such as 0 to 9 and A to Z.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, str]] = {}  # how many of a kind, and where the first stands

    def add(self, label: Any, names: Sequence[str] | None, where: str) -> None:
        """Count one label; what is neither a whole number nor a text is no label, which is said elsewhere."""
        if isinstance(label, str):
            self._count("names", 1, where)
        elif isinstance(label, int) and not isinstance(label, bool) and not _is_its_own_name(label, names):
            self._count("numbers", 1, where)

    def extend(self, later: "LabelKinds") -> None:
        """Count the labels of another part of the data set, too."""
        for kind, (n, where) in later._seen.items():
            self._count(kind, n, where)

    def check(self, where: str) -> None:
        """Check that there are labels of one kind. `where`: the data set.

        Raises:
            UserError: there are both.
        """
        if len(self._seen) > 1:
            (n_numbers, number), (n_names, name) = self._seen["numbers"], self._seen["names"]
            raise UserError(
                f"{where}: mixes {n_numbers:,} labels that are numbers (first: {number}) and {n_names:,} that are names"
                f" (first: {name}); write all of them as numbers, or all as names"
            )

    def _count(self, kind: str, n: int, where: str) -> None:
        before, first = self._seen.get(kind, (0, where))
        self._seen[kind] = before + n, first


def _is_its_own_name(number: int, names: Sequence[str] | None) -> bool:
    return names is not None and 0 <= number < len(names) and names[number] == str(number)


def is_number(label: str) -> bool:
    """Whether a text is the number of a class."""
    return label.strip().isdecimal() and len(label.strip()) <= _MOST_DIGITS
