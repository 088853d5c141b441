"""Lists a folder of class folders: the layout of ImageNet, also with folders below the class folders."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from hsae.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def class_folders(root: Path) -> list[str]:
    """Names of the folders in `root` that are not hidden, sorted; links to folders count as folders."""
    return sorted(check_utf8(entry.name) for entry in _entries(root) if entry.is_dir())


def images_of(root: Path, class_folder: str) -> list[str]:
    """Every image below a class folder, by its posix path relative to `root`, sorted.

    An image is a file with a suffix of `IMAGE_SUFFIXES`, in any case, that is not hidden; others are ignored.
    """
    return sorted(_walk(root, class_folder, above=()))


def has_images_only_below(folder: Path) -> bool:
    """Whether a folder holds folders and no image directly, as the "train" of a data set with splits does."""
    entries = _entries(folder)
    return any(entry.is_dir() for entry in entries) and not any(_is_image(entry.name) for entry in entries)


def check_utf8(name: str) -> str:
    """The name; `UserError` where it is not UTF-8, as it could be neither stored nor fingerprinted."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(name).decode("utf-8", errors="backslashreplace")
        raise UserError(f"{shown}: the name is not UTF-8; rename the file or folder") from error
    return name


def _walk(root: Path, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    entries = _entries(root / folder)
    status = (root / folder).stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        raise UserError(f"{root / folder}: is a link to a folder above itself; remove the link")
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if entry.is_dir():
            yield from _walk(root, check_utf8(path), (*above, identity))
        elif _is_image(entry.name):
            check_utf8(path)
            if not entry.is_file():
                raise UserError(f"{root / path}: is named like an image and is no regular file; remove it")
            yield path


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden; a broken link, which may have been a class, is a `UserError`."""
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
        for entry in entries:
            if entry.is_symlink():
                entry.stat()
    except OSError as error:
        where = check_utf8(str(error.filename or folder))
        raise UserError(f"{where}: cannot be read ({error.strerror}); repair or remove it") from error
    return entries


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
