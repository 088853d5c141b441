"""Images inside large files of this machine: which files a location means, and how its images are called."""

import errno
import glob
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from hsae.datasets.sources.local_files import check_utf8, version_of_file
from hsae.datasets.sources.registry import scheme_of
from hsae.datasets.sources.similar_names import similar_name_hint
from hsae.datasets.sources.source import ImageSource
from hsae.errors import UserError
from hsae.system_files import is_hidden

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_FILES = 100_000
_SHOWN = 5


class PackedFiles(ImageSource):
    """Images that lie together in files; an image's path is `FILE/PLACE`, with the file relative to `folder`.

    A location is a path or a URI `SCHEME:///PATH?SETTING=VALUE`. The path may be a folder, or a pattern with `*`, `?`,
    `[...]` and `{000..012}`.
    """

    suffix: str
    """Of the files."""
    settings: Mapping[str, str]
    settings_known: ClassVar[tuple[str, ...]]
    """What may stand behind the question mark."""

    def __init__(self, location: str) -> None:
        """Make the source of a location; nothing is opened.

        Raises:
            UserError: the location names another machine, or a setting that there is none of.
        """
        path, settings = _parsed(location)
        self.pattern = path.absolute()
        scheme = scheme_of(location)
        query = "".join(f"{'&' if n else '?'}{key}={value}" for n, (key, value) in enumerate(settings.items()))
        self.set_up(location, settings)
        self.root = f"{scheme}://{self.pattern}{query}" if scheme else str(self.pattern)

    def set_up(self, location: str, settings: Mapping[str, str]) -> None:
        """What files anywhere have: a location and settings.

        Raises:
            UserError: there is no such setting.
        """
        super().__init__(location)
        self.settings = settings
        check_settings(location, settings, self.settings_known)

    @cached_property
    def folder(self) -> Path:
        """What the names of the files are relative to: the part of the pattern before its first wildcard."""
        if self.pattern.is_dir():
            return self.pattern
        parts = self.pattern.parts[:-1]
        plain = itertools.takewhile(lambda part: not glob.has_magic(part) and not _RANGE.search(part), parts)
        return Path(*plain)

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files by their names, sorted.

        Raises:
            UserError: there is none, one is missing, or one cannot be stored by its name.
        """
        written = str(self.pattern / f"*{self.suffix}") if self.pattern.is_dir() else str(self.pattern)
        found: list[Path] = []
        missing: list[Path] = []
        for path in without_ranges(written):
            if glob.has_magic(path) and not Path(path).exists():
                found += _matching(path)
            else:
                (found if Path(path).is_file() else missing).append(Path(path))
        if missing:
            shown = ", ".join(map(str, missing[:_SHOWN])) + (
                f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            )
            raise UserError(f"{self.uri}: there is no file {shown}{similar_name_hint(missing[0])}")
        if not found:
            raise UserError(f"{self.uri}: no {self.suffix} file is there (looked for {written})")
        return {check_utf8(path.relative_to(self.folder).as_posix()): path for path in sorted(found)}

    def check(self) -> None:
        """See `ImageSource`."""
        check_utf8(str(self.pattern))
        _ = self.files

    def locate(self, path: str) -> str:
        """See `ImageSource`."""
        return str(self.folder / path)

    def version(self, path: str) -> str:
        """See `ImageSource`."""
        return version_of_file(self.file_and_place(path)[0])

    def file_and_place(self, path: str) -> tuple[Path, str]:
        """The file that holds an image, and the image's place in it.

        Whether the file is there is not looked at.

        Raises:
            FileNotFoundError: the path names no file of this kind.
        """
        name, place = name_and_place(path, self.suffix)
        return self.folder / name, place


def _matching(pattern: str) -> list[Path]:
    """The files of an absolute pattern; a wildcard stands for no hidden file, such as `._train.tar` of macOS."""
    root = Path(pattern).anchor
    takes_hidden = is_hidden(Path(pattern).name)
    found = Path(root).glob(pattern.removeprefix(root))
    return [path for path in found if path.is_file() and (takes_hidden or not is_hidden(path.name))]


def _parsed(location: str) -> tuple[Path, dict[str, str]]:
    if not scheme_of(location):
        return Path(location), {}
    # "?" is a wildcard elsewhere; in a URI it begins the settings.
    parts = urlsplit(location)
    if parts.netloc not in {"", "localhost"}:
        scheme = parts.scheme
        raise UserError(f"{location}: write {scheme}:///PATH, with three slashes, for an absolute path of this machine")
    return Path(unquote(parts.path)), settings_in(parts.query)


def settings_in(query: str) -> dict[str, str]:
    """What stands behind the question mark of a location, `label=breed&group=camera`."""
    return dict(parse_qsl(query, keep_blank_values=True))


def query_of(settings: Mapping[str, str]) -> str:
    """The settings as `settings_in` reads them, quoted, behind a question mark; nothing without settings."""
    query = "&".join(f"{key}={quote(value)}" for key, value in settings.items())
    return f"?{query}" if query else ""


def check_settings(location: str, settings: Mapping[str, str], known: Sequence[str]) -> None:
    """See that every setting is one that there is.

    Raises:
        UserError: there are others.
    """
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise UserError(f"{location}: there is no setting {', '.join(unknown)}; known: {', '.join(known)}")


def name_and_place(path: str, suffix: str) -> tuple[str, str]:
    """The name of the file in the path of an image, `FILE/PLACE`, and the place in it.

    Raises:
        FileNotFoundError: the path names no file of this kind.
    """
    end = f"{re.escape(suffix)}/"
    found = re.search(end, path) or re.search(end, path, re.IGNORECASE)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, f"the path names no {suffix} file")
    return path[: found.end() - 1], path[found.end() :]


def without_ranges(pattern: str) -> list[str]:
    """The pattern with every `{000..012}` written out.

    Raises:
        UserError: that would be very many.
    """
    sizes = [int(found[2]) - int(found[1]) + 1 for found in _RANGE.finditer(pattern)]
    for found, size in zip(_RANGE.finditer(pattern), sizes, strict=True):
        if not 0 < size <= MOST_FILES:
            raise UserError(f"{pattern}: {found[0]} is no range of at most {MOST_FILES:,} rising numbers")
    if math.prod(sizes) > MOST_FILES:
        raise UserError(f"{pattern}: its ranges stand for {math.prod(sizes):,} files, more than {MOST_FILES:,}")
    return _written_out(pattern)


def _written_out(pattern: str) -> list[str]:
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    width = len(found[1])
    return [
        path
        for number in range(int(found[1]), int(found[2]) + 1)
        for path in _written_out(f"{pattern[: found.start()]}{number:0{width}}{pattern[found.end() :]}")
    ]
