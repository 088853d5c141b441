"""Images in tars with their labels beside them, wherever the tars lie."""

import errno
import hashlib
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, BinaryIO, ClassVar

from hsae.datasets.sources.folder import is_image
from hsae.datasets.sources.left_out import LeftOut, kind_of, shown_folder
from hsae.datasets.sources.local_files import check_utf8
from hsae.datasets.sources.mistakes import Mistakes
from hsae.datasets.sources.packed.class_names import LabelKinds, is_number, text_of_group, text_of_label
from hsae.datasets.sources.packed.stored_file import StoredFile
from hsae.datasets.sources.packed.tar_members import TarIndexes, members
from hsae.datasets.sources.source import Contents, ImageSource, SourceImage
from hsae.errors import ServiceError, UserError
from hsae.system_files import is_hidden, is_system_folder

_LABEL_SUFFIXES = (".cls", ".json")
_LABEL_BYTES = 1 << 20
_MOST_IMAGE_BYTES = 1 << 30
_PIECE_BYTES = 1 << 20
_TARS_AT_ONCE = 4
_indexes = TarIndexes()


@dataclass(slots=True)
class _Sample:
    """What the members of one name have, but for the part of it after its first dot."""

    images: list[str] = field(default_factory=list)
    digest: tuple[str, int] | None = None
    labels: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _InTar:
    """The images of a tar, what is not taken of it, what is wrong with it, and the kinds of its labels."""

    images: list[SourceImage] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    mistakes: Mistakes = field(default_factory=Mistakes)
    kinds: LabelKinds = field(default_factory=LabelKinds)


class TarImages(ImageSource):
    """Tars of samples: a sample is the members of one name up to its first dot; an image's path is `TAR/MEMBER`.

    Its label is in `.cls` (a text, or a number with a file of class names), otherwise in `.json` (the entry `label`, a
    text, number or list), otherwise it is the folder that the image is in. Settings: `label` and `group` name entries
    of the JSON, `classes` a file of class names.
    """

    settings_known: ClassVar[tuple[str, ...]] = ("label", "group", "classes")
    settings: Mapping[str, str]

    @abstractmethod
    def tars(self) -> Mapping[str, StoredFile]:
        """The tars by their names, in the order of these.

        Raises:
            UserError: there is none, or one is missing.
        """

    @abstractmethod
    def tar_and_member(self, path: str) -> tuple[StoredFile, str]:
        """The tar that holds an image, and the image's name in it; whether it is there is not looked at.

        Raises:
            FileNotFoundError: the path names no tar.
        """

    @abstractmethod
    def class_names(self) -> tuple[str, ...] | None:
        """The names of classes that are counted; None: nothing names them.

        Raises:
            UserError: the file of names cannot be read.
        """

    def list(self) -> Contents:
        """See `ImageSource`. Of all tars every mistake is said."""
        return self._listed

    @cached_property
    def _listed(self) -> Contents:
        """The contents, listed once: tars on a server are read for it."""
        images: list[SourceImage] = []
        left_out = LeftOut()
        in_tars, kinds = Mistakes(), LabelKinds()
        with ThreadPoolExecutor(max_workers=_TARS_AT_ONCE) as pool:
            for found in pool.map(self._contents_of, *zip(*self.tars().items(), strict=True)):
                images += found.images
                left_out.files.update(found.left_out.files)
                left_out.folders.update(found.left_out.folders)
                in_tars.extend(found.mistakes)
                kinds.extend(found.kinds)
        mistakes = Mistakes()
        with mistakes.kept():
            kinds.check(self.uri)
        mistakes.extend(in_tars)
        if "label" not in self.settings:  # who names the entry does not mean the folder
            _check_folders(images, mistakes)
        mistakes.raise_all()
        return Contents(images, left_out)

    def read(self, path: str) -> bytes:
        """See `ImageSource`. Where the images of a tar are is found once; of the last tars it is remembered."""
        file, member = self.tar_and_member(path)
        try:
            place = _indexes.of(file).find(member)
        except ServiceError:
            raise
        except UserError as error:
            raise OSError(errno.EIO, str(error)) from error
        if place is None:
            raise FileNotFoundError(errno.ENOENT, f"the tar has no member {member!r}")
        offset, size = place
        if size > _MOST_IMAGE_BYTES:
            raise OSError(errno.EFBIG, f"the member has {size:,} bytes, and {_MOST_IMAGE_BYTES:,} are the most")
        content = file.read(offset, size)
        if len(content) != size:
            raise OSError(errno.EIO, f"the tar ends inside the member {member!r}")
        return content

    def version(self, path: str) -> str:
        """See `ImageSource`."""
        return self.tar_and_member(path)[0].version()

    @cached_property
    def _names(self) -> tuple[str, ...] | None:
        return self.class_names()

    def _contents_of(self, name: str, file: StoredFile) -> _InTar:
        """What is in one tar."""
        found = _InTar()
        with found.mistakes.kept():
            for key, sample in _samples(file, found.left_out).items():
                if not sample.images:
                    found.left_out.files.update([*sample.labels])
                    continue
                with found.mistakes.kept():
                    if len(sample.images) > 1:
                        several = " and ".join(sample.images)
                        raise UserError(f"{file}: the sample {key!r} has the images {several}; keep one of them")
                    (member,) = sample.images
                    labels, group = self._labelled(sample, member, f"{file}, {member}", found.kinds)
                    found.images.append(SourceImage(check_utf8(f"{name}/{member}"), labels, group, sample.digest))
        return found

    def _labelled(
        self, sample: _Sample, member: str, where: str, kinds: LabelKinds
    ) -> tuple[tuple[str, ...], str | None]:
        """Labels and group of a sample."""
        described = _described(sample.labels.get(".json"), where)
        group_key = self.settings.get("group")
        group = None if group_key is None else text_of_group(described.get(group_key), where)
        asked = self.settings.get("label")
        found: Any = None
        if asked is None and ".cls" in sample.labels:
            found = _text(sample.labels[".cls"], f"{where}: the label in .cls")
        else:
            found = described.get("label" if asked is None else asked)
        if found is None and asked is None:
            found = PurePosixPath(member).parent.name
        labels = found if isinstance(found, list) else [found]
        return tuple(dict.fromkeys(self._named(one, where, kinds) for one in labels or [None])), group

    def _named(self, label: Any, where: str, kinds: LabelKinds) -> str:
        if isinstance(label, str) and is_number(label):
            label = int(label)
        if label is None or (isinstance(label, str) and not label.strip()):
            raise UserError(
                f"{where}: has no label; put it into a member of the same name with the suffix .cls or .json, or the"
                " image into a folder named like its class"
            )
        names = self._names if isinstance(label, int) else None
        kinds.add(label, names, where)
        return text_of_label(label, names, where)


def _check_folders(images: Sequence[SourceImage], mistakes: Mistakes) -> None:
    """Add every image whose label is not the class that its folder is named like.

    A folder is a class if most of its images have its name as a label: `train` may be a split, and also a class. A
    label most of whose images are in the folder may be another name of the class (`n01440764` in `tench`).
    """
    sizes = Counter(_folder_of(image) for image in images)
    labels = Counter(label for image in images for label in image.labels)
    pairs = Counter((_folder_of(image), label) for image in images for label in image.labels)
    for image in images:
        folder = _folder_of(image)
        is_class = 2 * pairs[folder, folder] > sizes[folder]
        if is_class and not any(label == folder or 2 * pairs[folder, label] > labels[label] for label in image.labels):
            mistakes.add(
                f"{image.path}: its label is {' and '.join(image.labels)}, and its folder is named like another class,"
                f" {folder}; correct one of the two, or rename the folder if it is no class"
            )


def _folder_of(image: SourceImage) -> str:
    return image.path.rpartition("/")[0].rpartition("/")[2]


def _samples(file: StoredFile, left_out: LeftOut) -> dict[str, _Sample]:
    """The samples of a tar by their names.

    Raises:
        UserError: the tar cannot be read, or holds a member twice.
    """
    samples: dict[str, _Sample] = {}
    kinds: Counter[str] = Counter()
    places: dict[str, tuple[int, int]] = {}
    folders: set[tuple[tuple[str, ...], str]] = set()  # of other programs, with the parts of the path above
    version = _version_of(file)
    for member, opened in members(file):
        name = PurePosixPath(member.name)
        foreign = next((part for part in name.parts[:-1] if part != ".." and is_system_folder(part)), None)
        if foreign is not None:
            folders.add((name.parts[: name.parts.index(foreign)], foreign))
            continue
        if is_hidden(name.name):
            left_out.files[kind_of(name.name)] += 1
            continue
        if member.name in places:
            raise UserError(f"{file}: holds the member {member.name} twice; make the tar again")
        places[member.name] = (member.offset_data, member.size)
        key, _, suffix = member.name.rpartition("/")[2].partition(".")
        sample = samples.setdefault(f"{name.parent}/{key}", _Sample())
        if is_image(member.name):
            sample.images.append(member.name)
            if file.is_remote:
                sample.digest = _digest(opened, member.size, f"{file}, {member.name}")
        elif f".{suffix}" in _LABEL_SUFFIXES and member.size <= _LABEL_BYTES:
            sample.labels[f".{suffix}"] = _content(opened, member.size, f"{file}, {member.name}")
        else:
            kinds[kind_of(name.name)] += 1
    if not any(sample.images for sample in samples.values()):
        inner = "; it holds tars: unpack it first" if kinds.get(".tar") else ""
        raise UserError(f"{file}: holds no image{inner}")
    left_out.files.update(kinds)
    left_out.folders.update(shown_folder(name) for _, name in folders)
    _indexes.keep(file, version, places)
    return samples


def _content(opened: BinaryIO, size: int, where: str) -> bytes:
    """What follows in an opened tar; where that ends early, its next header is missing, which is said later."""
    try:
        return opened.read(size)
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror or error})") from error


def _digest(opened: BinaryIO, size: int, where: str) -> tuple[str, int]:
    """Checksum and size of an image that is received anyway."""
    if size > _MOST_IMAGE_BYTES:
        raise UserError(f"{where}: has {size:,} bytes, and {_MOST_IMAGE_BYTES:,} are the most")
    digest = hashlib.sha256()
    left = size
    while left and (piece := _content(opened, min(left, _PIECE_BYTES), where)):
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest(), size


def _version_of(file: StoredFile) -> str:
    try:
        return file.version()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error


def _described(content: bytes | None, where: str) -> dict[str, Any]:
    if content is None:
        return {}
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: its .json cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where}: its .json holds no object with named entries")
    return found


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8 text ({error})") from error
