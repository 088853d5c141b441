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

_WNID = re.compile(r"(?<![A-Za-z0-9])n[0-9]{8}(?![^\W_])")
_LOOKED_AT = 64


class WnidFilesSource(LocalFiles):
    """A folder of files such as `n01440764_10026.JPEG` or `n01440764_tench_001.JPEG`.

    The label is the wnid alone: what follows may be a number, a split, a checksum or a name. Only another wnid
    contradicts it, which is an error of the taxonomy.
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
    """Whether a folder holds such images, looked for among its first entries, and no class folder anywhere."""
    try:
        with os.scandir(folder) as scanned:
            first = list(itertools.islice(scanned, _LOOKED_AT))
            if not any(_is_named(entry.name) for entry in first):
                return False
            entries = itertools.chain(first, scanned)
            return not any(entry.is_dir() for entry in entries if not _is_of_others(entry.name))
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def _is_named(name: str) -> bool:
    return not _is_of_others(name) and is_image(name) and _label_in(name) is not None


def _is_of_others(name: str) -> bool:
    return is_hidden(name) or is_system_folder(name)


def _label_in(name: str) -> str | None:
    """The label in the name of a file; None: it begins with no wnid.

    Another wnid further on is kept in it, so that the two are seen to contradict each other.
    """
    wnid = _WNID.match(name)
    if wnid is None:
        return None
    other = next((other for other in _WNID.findall(name) if other != wnid[0]), None)
    return wnid[0] if other is None else f"{wnid[0]}_{other}"
