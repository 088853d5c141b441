"""A folder of class folders as an image source: the layout of ImageNet, also with folders below the class folders."""

import os
import stat
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from hsae.datasets.sources.left_out import LeftOut, kind_of, shown_folder
from hsae.datasets.sources.local_files import LocalFiles, check_utf8
from hsae.datasets.sources.mistakes import Mistakes
from hsae.datasets.sources.similar_names import similar_name_hint
from hsae.datasets.sources.source import Contents, SourceImage
from hsae.errors import UserError
from hsae.system_files import is_hidden, is_system_folder

_IMAGE_SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip

_Identity = tuple[int, int]

_PACKED = {".parquet": "parquet", ".arrow": "arrow", ".tar": "tar"}


class FolderSource(LocalFiles):
    """A folder with a folder of images for each class; the folders' names are the labels."""

    remedy: ClassVar[str] = "rename the folder"

    def __init__(self, path: Path) -> None:
        """Make the source of an absolute path."""
        super().__init__(path, path)

    def check(self) -> None:
        """See `ImageSource`."""
        super().check()
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError as error:
            raise UserError(f"{self.path}: there is no such folder or file{similar_name_hint(self.path)}") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise UserError(f"{str(self.path)!r}: cannot be read ({error})") from error
        if not stat.S_ISDIR(mode):
            raise UserError(
                f"{self.path}: is neither a folder of class folders nor a .csv with the columns path,label, nor a"
                " .parquet, .arrow or .tar"
            )

    def labels(self) -> dict[str, str]:
        """See `ImageSource`."""
        folders, _ = self._classes
        return {folder: f"class folder {folder!r} of {self.path}" for folder in folders}

    def hint(self, unknown: Sequence[str]) -> str:
        """A hint at the folders of a data set with splits, if a label without a synset looks like one."""
        for label in unknown:
            if _has_images_only_below(self.path / label):
                return f"if the folders in class folder {label!r} are the classes, give {self.path / label} itself"
        return ""

    def list(self) -> Contents:
        """See `ImageSource`."""
        folders, beside = self._classes
        left_out = LeftOut(beside=beside.files.copy(), folders=beside.folders.copy())
        above = _folders_above(self.path)
        images: list[SourceImage] = []
        mistakes = Mistakes()
        for folder in folders:
            in_folder = LeftOut()
            paths: list[str] = []
            with mistakes.kept():
                paths += sorted(_walk(self.path, folder, above, in_folder))
                if not paths:
                    other = f" ({in_folder.text()})" if in_folder else ""
                    raise UserError(
                        f"class folder {folder!r} of {self.path}: holds no images{other}; fill it or remove it"
                    )
            left_out.files.update(in_folder.files)
            left_out.folders.update(in_folder.folders)
            labels = (folder,)  # one for all: a large set has millions of images
            images += [SourceImage(path, labels) for path in paths]
        mistakes.raise_all()
        return Contents(images, left_out)

    @cached_property
    def _classes(self) -> tuple[Sequence[str], LeftOut]:
        """The sorted class folders, and what stands beside them; listed once, so that all methods agree.

        System folders are no class folders; links to folders are.
        """
        beside = LeftOut()
        folders = []
        for entry in entries_in(self.path, beside):
            if entry.is_dir():
                folders.append(check_utf8(entry.name))
            else:
                beside.files[kind_of(entry.name)] += 1
        if not folders:
            found = f" (found: {beside.text()})" if beside else ""
            for suffix, scheme in _PACKED.items():
                if beside.files[suffix]:
                    raise UserError(
                        f"{self.path}: holds no class folders{found}; to use images inside {suffix} files, give those"
                        f" of one split: '{scheme}://{self.path}/train-*{suffix}'"
                    )
            raise UserError(
                f"{self.path}: holds no class folders{found}; put the images of each class into a folder of its own, or"
                " list them with their labels in a CSV path,label and give that"
            )
        return sorted(folders), beside


def _has_images_only_below(folder: Path) -> bool:
    """Whether a folder holds folders and no image directly, as the "train" of a data set with splits does."""
    entries = entries_in(folder, LeftOut())
    return any(entry.is_dir() for entry in entries) and not any(is_image(entry.name) for entry in entries)


def _folders_above(root: Path) -> frozenset[_Identity]:
    """The data set's folder and all folders above it: a link from below to one of them would never end."""
    resolved = root.resolve()
    return frozenset(_identity(folder) for folder in (resolved, *resolved.parents))


def _identity(folder: Path) -> _Identity:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _walk(root: Path, folder: str, above: frozenset[_Identity], left_out: LeftOut) -> Iterator[str]:
    """Every image below a folder, by its posix path relative to `root`.

    An image is a file with a suffix of `_IMAGE_SUFFIXES`, in any case, that is not hidden; others are counted in
    `left_out`.
    """
    entries = entries_in(root / folder, left_out)
    identity = _identity(root / folder)
    if identity in above:
        raise UserError(f"{root / folder}: is a link to a folder above itself; remove the link")
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if entry.is_dir():
            yield from _walk(root, check_utf8(path), above | {identity}, left_out)
        elif is_image(entry.name):
            check_utf8(path)
            if not entry.is_file():
                raise UserError(f"{root / path}: is named like an image and is no regular file; remove it")
            yield path
        else:
            left_out.files[kind_of(entry.name)] += 1


def entries_in(folder: Path, left_out: LeftOut) -> list[os.DirEntry[str]]:
    """The content of a folder without hidden and system entries, which are counted in `left_out`.

    Raises:
        UserError: a link is broken; it may have been a class.
    """
    entries = []
    try:
        with os.scandir(folder) as scanned:
            for entry in scanned:
                hidden = is_hidden(entry.name)
                if is_system_folder(entry.name) and (not hidden or entry.is_dir(follow_symlinks=False)):
                    left_out.folders[shown_folder(entry.name)] += 1
                elif hidden:
                    left_out.files[kind_of(entry.name)] += 1
                else:
                    entries.append(entry)
        for entry in entries:
            if entry.is_symlink():
                entry.stat()
    except OSError as error:
        where = check_utf8(str(error.filename or folder))
        raise UserError(f"{where}: cannot be read ({error.strerror}); repair or remove it") from error
    return entries


def is_image(name: str) -> bool:
    """Whether a file's suffix is that of an image."""
    # Not by pathlib, which keeps a trace of every name that it has seen.
    stem, _, suffix = name.rpartition("/")[2].rpartition(".")
    return bool(stem) and f".{suffix.lower()}" in _IMAGE_SUFFIXES
