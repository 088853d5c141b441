"""A flat folder of images whose names begin with the wnid of their class, as ImageNet's own do, as an image source."""

import itertools
import os
import re
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from hsae.datasets.sources.folder import entries_in, is_image
from hsae.datasets.sources.left_out import LeftOut, kind_of
from hsae.datasets.sources.local_files import LocalFiles, check_utf8
from hsae.datasets.sources.source import Contents, SourceImage
from hsae.errors import UserError
from hsae.system_files import is_hidden, is_system_folder

_LEADING = re.compile(r"(n\d{8})(?:[\s_.,:-]+(.*))?")
_WNID = re.compile(r"(?<![A-Za-z0-9])n\d{8}(?!\d)")
# A word with a digit, and all that follows: the number of the image, or what else tells it from others.
_FROM_A_NUMBER = re.compile(r"(?:^|[\s_.,-]+)[^\s_.,-]*\d.*")
_LOOKED_AT = 64


class WnidFilesSource(LocalFiles):
    """A folder of files such as `n01440764_10026.JPEG` or `n01440764_tench_001.JPEG`.

    The label is the wnid, with the name that follows it up to the first word with a digit. A wnid and a name that
    contradict each other are an error of the taxonomy, as in the name of a class folder.
    """

    remedy: ClassVar[str] = "correct the file name"

    def __init__(self, path: Path) -> None:
        """Make the source of an absolute path."""
        super().__init__(path, path)

    def labels(self) -> dict[str, str]:
        """See `ImageSource`."""
        first: dict[str, str] = {}
        for image in self._contents.images:
            first.setdefault(image.labels[0], image.path)
        return {label: f"{self.path}: label {label!r} of {name}" for label, name in sorted(first.items())}

    def list(self) -> Contents:
        """See `ImageSource`."""
        return self._contents

    @cached_property
    def _contents(self) -> Contents:
        """The images, listed once, so that both methods agree.

        Raises:
            UserError: a name begins with no wnid, or folders stand beside the files.
        """
        left_out = LeftOut()
        images: list[SourceImage] = []
        unnamed: list[str] = []
        labels_of: dict[str, tuple[str, ...]] = {}  # one for all images of a class: a large set has millions
        entries = sorted(entries_in(self.path, left_out), key=lambda entry: entry.name)
        folders = [entry.name for entry in entries if entry.is_dir()]
        if folders:
            raise UserError(
                f"{self.path}: holds images named by their wnid and also folders, first {check_utf8(folders[0])!r}; put"
                " one of the two elsewhere"
            )
        for entry in entries:
            if not is_image(entry.name):
                left_out.files[kind_of(entry.name)] += 1
                continue
            name = check_utf8(entry.name)
            if not entry.is_file():
                raise UserError(f"{self.path / name}: is named like an image and is no regular file; remove it")
            label = _label_in(name)
            if label is None:
                unnamed.append(name)
            else:
                images.append(SourceImage(name, labels_of.setdefault(label, (label,))))
        if unnamed:
            raise UserError(
                f"{self.path}: {len(unnamed):,} of {len(images) + len(unnamed):,} images have no wnid at the start of"
                f" their name, as {images[0].path if images else 'n01440764_10026.JPEG'} has, first {unnamed[0]!r};"
                " rename or remove them, or put the images of each class into a folder of its own, or list all in a"
                " CSV path,label"
            )
        return Contents(images, left_out)


def holds_wnid_files(folder: Path) -> bool:
    """Whether a folder begins with such images and no class folder; only its first entries are looked at."""
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in itertools.islice(scanned, _LOOKED_AT) if not _is_of_others(entry.name)]
            named = any(is_image(entry.name) and _label_in(entry.name) for entry in entries)
            return named and not any(entry.is_dir() for entry in entries)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def _is_of_others(name: str) -> bool:
    return is_hidden(name) or is_system_folder(name)


def _label_in(name: str) -> str | None:
    """The label in the name of a file; None: it begins with no wnid.

    Another wnid further on is kept in it, so that the two are seen to contradict each other.
    """
    found = _LEADING.fullmatch(name.rpartition(".")[0])
    if found is None:
        return None
    wnid, rest = found[1], found[2] or ""
    others = (other for other in _WNID.findall(rest) if other != wnid)
    called = next(others, "") or _FROM_A_NUMBER.sub("", rest).strip()
    return f"{wnid}_{called}" if called else wnid
