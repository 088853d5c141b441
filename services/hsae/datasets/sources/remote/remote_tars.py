"""Tars on a server: their names, and the names of their images."""

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import Lock
from typing import NoReturn

from hsae.datasets.sources.mistakes import Mistakes
from hsae.datasets.sources.packed.class_names import class_names_from
from hsae.datasets.sources.packed.packed_files import (
    check_settings,
    name_and_place,
    query_of,
    settings_in,
    without_ranges,
)
from hsae.datasets.sources.packed.tar_images import TarImages
from hsae.datasets.sources.remote.remote_file import RemoteFile
from hsae.errors import UserError

TARS = ".tar"
"""How the names of all files end."""
_TEXT_BYTES = 1 << 20
_OPEN_FILES = 4096
_ASKED_AT_ONCE = 8


class RemoteTars(TarImages):
    """Tars on a server; an image's path is `TAR/MEMBER`, with the tar relative to the folder before the first wildcard.

    Subclasses say which tars a location means, and make a file of a name.
    """

    def __init__(self, place: str, query: str) -> None:
        """Make the source; nothing is asked yet.

        Args:
            place: the location without its settings and without a password, for messages.
            query: the settings, `label=breed&group=camera`.

        Raises:
            UserError: there is no such setting.
        """
        self.settings = settings_in(query)
        check_settings(place, self.settings, self.settings_known)
        super().__init__(place + query_of(self.settings))
        self._lock = Lock()
        self._opened: OrderedDict[str, RemoteFile] = OrderedDict()

    @abstractmethod
    def list_names(self) -> Sequence[str]:
        """The names of all tars, relative to the folder.

        Raises:
            UserError: there is none.
        """

    @cached_property
    def names(self) -> Sequence[str]:
        """The names of all tars, sorted."""
        return sorted(set(self.list_names()))

    @abstractmethod
    def file_named(self, name: str) -> RemoteFile:
        """The file of a name relative to the folder; it is not asked for."""

    def check(self) -> None:
        """See `ImageSource`. The first and the last tar are asked for."""
        self._check(sorted({self.names[0], self.names[-1]}))

    def tars(self) -> Mapping[str, RemoteFile]:
        """See `TarImages`."""
        self._check(self.names)
        return {name: self._file(name) for name in self.names}

    def tar_and_member(self, path: str) -> tuple[RemoteFile, str]:
        """See `TarImages`."""
        name, member = name_and_place(path, TARS)
        return self._file(name), member

    def class_names(self) -> tuple[str, ...] | None:
        """See `TarImages`."""
        return class_names_from(self.settings.get("classes"), self._text, str)

    def locate(self, path: str) -> str:
        """See `ImageSource`."""
        try:
            file, member = self.tar_and_member(path)
        except FileNotFoundError:
            return super().locate(path)
        return f"{file}/{member}"

    def _file(self, name: str) -> RemoteFile:
        """The file of a name; the last ones are kept, with what is known of them."""
        with self._lock:
            file = self._opened.pop(name, None) or self.file_named(name)
            self._opened[name] = file
            if len(self._opened) > _OPEN_FILES:
                self._opened.popitem(last=False)
            return file

    def _check(self, names: Sequence[str]) -> None:
        """Ask for the size of each tar.

        Raises:
            UserError: all that cannot be read.
        """

        def ask(name: str) -> tuple[RemoteFile, OSError | None]:
            file = self._file(name)
            try:
                file.version()
            except OSError as error:
                return file, error
            return file, None

        mistakes = Mistakes()
        with ThreadPoolExecutor(max_workers=_ASKED_AT_ONCE) as pool:
            for file, error in pool.map(ask, names):
                if error is not None:
                    mistakes.add(f"{file}: cannot be read ({error.strerror or error})")
        mistakes.raise_all()

    def _text(self, name: str) -> bytes | None:
        """A small file beside the tars; None: it is not there."""
        file = self.file_named(name)
        try:
            return file.read(0, min(file.size, _TEXT_BYTES))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error


def written_out(place: str, pattern: str) -> list[str]:
    """The names of tars that a pattern with ranges stands for.

    Raises:
        UserError: one is no tar.
    """
    names = without_ranges(pattern)
    others = [name for name in names if not name.lower().endswith(TARS)]
    if others:
        _refuse(place, others)
    return names


def _refuse(place: str, others: Sequence[str]) -> NoReturn:
    raise UserError(
        f"{place}: {others[0].rsplit('/', 1)[-1] or 'it'} is no {TARS}; give tars, such as train-{{000..009}}{TARS}"
    )
