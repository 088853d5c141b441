"""Tars of images with their labels beside them, as WebDataset has them, as an image source."""

import errno
import json
import tarfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from hsae.datasets.sources.folder import is_image
from hsae.datasets.sources.left_out import LeftOut, kind_of, shown_folder
from hsae.datasets.sources.local_files import check_utf8
from hsae.datasets.sources.packed.class_names import class_names_of, name_of_class
from hsae.datasets.sources.packed.packed_files import PackedFiles
from hsae.datasets.sources.registry import register_source
from hsae.datasets.sources.source import Contents, SourceImage
from hsae.errors import UserError
from hsae.system_files import is_hidden, is_system_folder

TAR_SUFFIX = ".tar"
_LABEL_SUFFIXES = (".cls", ".json")
_LABEL_BYTES = 1 << 20
_OPEN_TARS = 4


@dataclass(slots=True)
class _Sample:
    """What the members of one name have, but for the part of it after its first dot."""

    images: list[str] = field(default_factory=list)
    labels: dict[str, bytes] = field(default_factory=dict)


@register_source("tar")
class WebDatasetSource(PackedFiles):
    """Tars: `tar:///data/train-{000..146}.tar`, or a path that ends in .tar.

    A sample is the members of one name up to its first dot. Its label is in `.cls` (a text, or a number with a file of
    class names), otherwise in `.json` (the entry `label`, a text, number or list), otherwise it is the folder that the
    image is in. Settings: `label` and `group` name entries of the JSON, `classes` a file of class names.
    """

    suffix = TAR_SUFFIX
    settings_known = ("label", "group", "classes")

    def __init__(self, location: str) -> None:
        """See `PackedFiles`."""
        super().__init__(location)
        self._lock = threading.Lock()
        self._places: OrderedDict[Path, dict[str, tuple[int, int]]] = OrderedDict()

    def list(self) -> Contents:
        """See `ImageSource`."""
        images: list[SourceImage] = []
        left_out = LeftOut()
        for name, path in self.files.items():
            for key, sample in _samples(path, left_out).items():
                if not sample.images:
                    left_out.files.update(list(sample.labels))
                    continue
                if len(sample.images) > 1:
                    several = " and ".join(sample.images)
                    raise UserError(f"{path}: the sample {key!r} has the images {several}; keep one of them")
                (member,) = sample.images
                labels, group = self._labelled(sample, member, f"{path}, {member}")
                images.append(SourceImage(check_utf8(f"{name}/{member}"), labels, group))
        return Contents(images, left_out)

    def read(self, path: str) -> bytes:
        """See `ImageSource`. Where the images of a tar are is found once; of the last tars it is remembered."""
        file, member = self.file_and_place(path)
        places = self._places_in(file)
        if member not in places:
            raise FileNotFoundError(errno.ENOENT, f"the tar has no member {member!r}")
        offset, size = places[member]
        with file.open("rb") as opened:
            opened.seek(offset)
            content = opened.read(size)
        if len(content) != size:
            raise OSError(errno.EIO, f"the tar ends inside the member {member!r}")
        return content

    def _places_in(self, file: Path) -> dict[str, tuple[int, int]]:
        with self._lock:
            if file not in self._places:
                try:
                    places = {member.name: (member.offset_data, member.size) for member in _members(file)}
                except UserError as error:
                    raise OSError(errno.EIO, str(error)) from error
                self._places[file] = places
                if len(self._places) > _OPEN_TARS:
                    self._places.popitem(last=False)
            self._places.move_to_end(file)
            return self._places[file]

    @cached_property
    def _names(self) -> tuple[str, ...] | None:
        return class_names_of(self.settings.get("classes"), self.folder)

    def _labelled(self, sample: _Sample, member: str, where: str) -> tuple[tuple[str, ...], str | None]:
        """Labels and group of a sample."""
        described = _described(sample.labels.get(".json"), where)
        group_key = self.settings.get("group")
        group = None if group_key is None or described.get(group_key) is None else str(described[group_key])
        asked = self.settings.get("label")
        found: Any = None
        if asked is None and ".cls" in sample.labels:
            found = _text(sample.labels[".cls"], f"{where}: the label in .cls")
        else:
            found = described.get("label" if asked is None else asked)
        if found is None and asked is None:
            found = PurePosixPath(member).parent.name
        labels = found if isinstance(found, list) else [found]
        return tuple(dict.fromkeys(self._named(one, where) for one in labels or [None])), group

    def _named(self, label: Any, where: str) -> str:
        if isinstance(label, str) and label.strip().isdecimal():
            label = int(label)
        if isinstance(label, int) and not isinstance(label, bool):
            return name_of_class(label, self._names, where)
        if not isinstance(label, str) or not label.strip():
            raise UserError(
                f"{where}: has no label; put it into a member of the same name with the suffix .cls or .json, or the"
                " image into a folder named like its class"
            )
        return label.strip()


def _samples(path: Path, left_out: LeftOut) -> dict[str, _Sample]:
    """The samples of a tar by their names.

    Raises:
        UserError: the tar cannot be read, or holds a member twice.
    """
    samples: dict[str, _Sample] = {}
    kinds: Counter[str] = Counter()
    seen: set[str] = set()
    folders: set[tuple[tuple[str, ...], str]] = set()  # of other programs, with the parts of the path above
    with path.open("rb") as opened:
        for member in _members(path):
            name = PurePosixPath(member.name)
            foreign = next((part for part in name.parts[:-1] if part != ".." and is_system_folder(part)), None)
            if foreign is not None:
                folders.add((name.parts[: name.parts.index(foreign)], foreign))
                continue
            if is_hidden(name.name):
                left_out.files[kind_of(name.name)] += 1
                continue
            if member.name in seen:
                raise UserError(f"{path}: holds the member {member.name} twice; make the tar again")
            seen.add(member.name)
            key, _, suffix = member.name.rpartition("/")[2].partition(".")
            sample = samples.setdefault(f"{name.parent}/{key}", _Sample())
            if is_image(member.name):
                sample.images.append(member.name)
            elif f".{suffix}" in _LABEL_SUFFIXES and member.size <= _LABEL_BYTES:
                opened.seek(member.offset_data)
                sample.labels[f".{suffix}"] = opened.read(member.size)
            else:
                kinds[kind_of(name.name)] += 1
    if not any(sample.images for sample in samples.values()):
        inner = "; it holds tars: unpack it first" if kinds.get(".tar") else ""
        raise UserError(f"{path}: holds no image{inner}")
    left_out.files.update(kinds)
    left_out.folders.update(shown_folder(name) for _, name in folders)
    return samples


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files of an uncompressed tar.

    Raises:
        UserError: it cannot be read to its end.
    """
    last = "its start"
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isreg():
                    yield member
                    last = f"the member {member.name}"
                tar.members = []  # type: ignore[attr-defined]  # it would keep a description of every member
            # tarfile takes a damaged header for the end, which is a block of zeros.
            with path.open("rb") as opened:
                opened.seek(tar.offset)
                if opened.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("the next header is damaged or missing")
    except (tarfile.TarError, OSError, EOFError) as error:
        compressed = "; a compressed tar must be decompressed first" if last == "its start" else ""
        raise UserError(f"{path}: cannot be read as a tar after {last} ({error}){compressed}") from error


def _described(content: bytes | None, where: str) -> dict[str, Any]:
    if content is None:
        return {}
    try:
        found = json.loads(content)
    except ValueError as error:
        raise UserError(f"{where}: its .json cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where}: its .json holds no object with named entries")
    return found


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{what} is not UTF-8 text ({error})") from error
