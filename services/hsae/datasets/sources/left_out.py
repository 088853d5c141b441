"""Counts of what the scan of a folder found and did not take, so that nobody expects it in the data set."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from hsae.system_files import is_hidden, is_system_file

HIDDEN = "hidden"
NO_SUFFIX = "without a suffix"

# Images that other programs know and hsae does not read: cameras, vectors, medicine, film and drawing programs.
_OTHER_IMAGES = frozenset({
    ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpx", ".svg", ".ico", ".psd", ".xcf", ".tga", ".exr", ".hdr",
    ".dcm", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".eps", ".pdf", ".pcx", ".sgi",
})  # fmt: skip
_SUFFIX = re.compile(r"\.[\w+-]{1,12}")
_N_KINDS = 8


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Counts of files by kind and of folders by name; a kind is a suffix, `hidden` or a system file's name."""

    files: Counter[str] = field(default_factory=Counter)
    """Files in class folders."""
    beside: Counter[str] = field(default_factory=Counter)
    """Files beside the class folders, images too: they have no class."""
    folders: Counter[str] = field(default_factory=Counter)
    """Folders of the system and of other programs; what is in them is not looked at."""

    def __bool__(self) -> bool:
        return any((self.files, self.beside, self.folders))

    def text(self) -> str:
        """Everything in one line, the most frequent first; if there are many kinds, the rest is one sum."""
        parts = [_counts(self.files)] if self.files else []
        if self.folders:
            parts.append(f"{_plural(sum(self.folders.values()), 'folder')} of other programs ({_names(self.folders)})")
        if self.beside:
            parts.append(f"beside the class folders {_counts(self.beside)}")
        unread = sorted(self.files.keys() & _OTHER_IMAGES)
        if unread:
            parts.append(f"to use images of the kind {', '.join(unread)}, convert them to JPEG or PNG")
        return "; ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """The counts for programs."""
        return {
            "files": _by_count(self.files),
            "beside_class_folders": _by_count(self.beside),
            "folders": _by_count(self.folders),
        }


def kind_of(name: str) -> str:
    """The kind of a file that is left out: its suffix in small letters, or what it is."""
    if is_hidden(name):
        return HIDDEN
    if is_system_file(name):
        return name
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if _SUFFIX.fullmatch(suffix) else NO_SUFFIX


def shown_folder(name: str) -> str:
    """A folder's name as messages print it."""
    return name if name.isprintable() else HIDDEN


def _by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _counts(counts: Mapping[str, int]) -> str:
    ordered = list(_by_count(counts).items())
    text = ", ".join(f"{n} {kind}" for kind, n in ordered[:_N_KINDS])
    n_others = sum(n for _, n in ordered[_N_KINDS:])
    return text + (f" and {n_others} of other kinds" if n_others else "")


def _names(counts: Mapping[str, int]) -> str:
    names = list(_by_count(counts))
    return ", ".join(names[:_N_KINDS]) + (", ..." if len(names) > _N_KINDS else "")


def _plural(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
