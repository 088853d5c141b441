"""Lists a folder of class folders: the layout of ImageNet, also with folders below the class folders."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from hsae.datasets.sources.left_out import LeftOut, kind_of, shown_folder
from hsae.errors import UserError
from hsae.system_files import is_hidden, is_system_folder

IMAGE_SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip

Identity = tuple[int, int]


def class_folders(root: Path, left_out: LeftOut) -> list[str]:
    """Names of the folders in `root`, sorted, without those of the system; links to folders count as folders.

    What else is there is counted in `left_out`.
    """
    found = LeftOut()
    folders = []
    for entry in _entries(root, found):
        if entry.is_dir():
            folders.append(check_utf8(entry.name))
        else:
            found.files[kind_of(entry.name)] += 1
    left_out.beside.update(found.files)
    left_out.folders.update(found.folders)
    return sorted(folders)


def images_of(root: Path, class_folder: str, left_out: LeftOut) -> list[str]:
    """Every image below a class folder, by its posix path relative to `root`, sorted.

    An image is a file with a suffix of `IMAGE_SUFFIXES`, in any case, that is not hidden; others are counted in
    `left_out`.
    """
    return sorted(_walk(root, class_folder, _folders_above(root), left_out))


def has_images_only_below(folder: Path) -> bool:
    """Whether a folder holds folders and no image directly, as the "train" of a data set with splits does."""
    entries = _entries(folder, LeftOut())
    return any(entry.is_dir() for entry in entries) and not any(_is_image(entry.name) for entry in entries)


def check_utf8(name: str) -> str:
    """The name; `UserError` where it is not UTF-8, as it could be neither stored nor fingerprinted."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(name).decode("utf-8", errors="backslashreplace")
        raise UserError(f"{shown}: the name is not UTF-8; rename the file or folder") from error
    return name


def _folders_above(root: Path) -> frozenset[Identity]:
    """The data set's folder and those that it lies in: whatever leads there from below is the link itself."""
    resolved = root.resolve()
    return frozenset(_identity(folder) for folder in (resolved, *resolved.parents))


def _identity(folder: Path) -> Identity:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _walk(root: Path, folder: str, above: frozenset[Identity], left_out: LeftOut) -> Iterator[str]:
    entries = _entries(root / folder, left_out)
    identity = _identity(root / folder)
    if identity in above:
        raise UserError(f"{root / folder}: is a link to a folder above itself; remove the link")
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if entry.is_dir():
            yield from _walk(root, check_utf8(path), above | {identity}, left_out)
        elif _is_image(entry.name):
            check_utf8(path)
            if not entry.is_file():
                raise UserError(f"{root / path}: is named like an image and is no regular file; remove it")
            yield path
        else:
            left_out.files[kind_of(entry.name)] += 1


def _entries(folder: Path, left_out: LeftOut) -> list[os.DirEntry[str]]:
    """What is in a folder, without what is hidden or the system's, which is counted in `left_out`.

    A broken link, which may have been a class, is a `UserError`.
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


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
