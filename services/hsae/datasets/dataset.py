"""A labelled set of image files: paths, classes and checksums."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from hsae.datasets.decision import LabelDecision
from hsae.datasets.sources.left_out import LeftOut
from hsae.datasets.sources.source import ImageSource, opened, readable
from hsae.errors import UserError

LISTING_SCHEMA = pa.schema(
    [
        pa.field("image", pa.int32(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("class_id", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
    ]
)

# Where some image has several classes. There is no `class_id` then, so that no reader takes one class for all of them.
MULTI_LABEL_LISTING_SCHEMA = LISTING_SCHEMA.set(
    LISTING_SCHEMA.get_field_index("class_id"), pa.field("class_ids", pa.list_(pa.string()), nullable=False)
)

# The further column of a listing of whose images some have a group; an image without one has null.
GROUP_FIELD = pa.field("group", pa.string())

_N_FILES_PER_TASK = 256
WhenRead = Literal["registration", "extraction"]
"""When the files of a data set are read for their checksums for the first time."""


@dataclass(frozen=True, slots=True)
class ImageDataset:
    """The images of a data set in their order, which is the order of their paths."""

    source: ImageSource
    """Where the images are; it reads the listing's paths."""
    fingerprint: str
    """sha256 (hex) over path, class ids, sha256 and group of every file, in order; see `fingerprint_of`."""
    listing: pa.Table
    """One row per image: its number 0..n-1, posix path, class id, sha256 and size (`LISTING_SCHEMA`); where some image
    has several classes, `class_ids` of every image, sorted, in place of `class_id` (`MULTI_LABEL_LISTING_SCHEMA`);
    where files are read by the extraction first, `version` in place of `sha256`, what the source says of the file
    without reading it, and a size only where it says that too (`unread`); where some image has a group, `GROUP_FIELD`
    at the end."""
    class_names: dict[str, str]
    """What the user calls each class: its folder's name or label, by class id, in the order of the ids."""
    merged: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The classes that several folders or labels name, by class id: all their names, sorted."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """What lies in the data set's folder and is not in the data set."""
    decisions: tuple[LabelDecision, ...] = ()
    """What each label was taken for, and why."""

    @property
    def n_images(self) -> int:
        """Number of images."""
        return int(self.listing.num_rows)

    @property
    def checksums(self) -> WhenRead:
        """When the files are read for their checksums."""
        return "registration" if mark_of(self.listing.schema) == "sha256" else "extraction"

    @property
    def class_ids(self) -> tuple[str, ...]:
        """The `Synset.id` of every class, sorted."""
        return tuple(self.class_names)


def hash_files(
    source: ImageSource, paths: Sequence[str], known: Mapping[str, tuple[str, int]]
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """sha256 (hex) and size in bytes of each image file, in order; several are read at a time.

    Args:
        source: reads them.
        paths: the images.
        known: by path what is known already.

    Raises:
        UserError: names the first file, in order, that is missing or cannot be read.
    """
    return _columns(paths, lambda some: [known.get(path) or _hashed(source, path) for path in some])


def _hashed(source: ImageSource, path: str) -> tuple[str, int]:
    with opened(source, path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.seek(0, os.SEEK_END)


def _columns(
    paths: Sequence[str], look_at: Callable[[Sequence[str]], Sequence[tuple[str, int | None]]]
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """What tells the file of each image, and its size, in order; threads look at several.

    As columns, which take a third of the memory of a list: a large set has millions of images.
    """

    def of_part(start: int) -> tuple[pa.Array, pa.Array]:
        marks, sizes = zip(*look_at(paths[start : start + _N_FILES_PER_TASK]), strict=True)
        return _array(marks, pa.string()), _array(sizes, pa.int64())

    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(of_part, range(0, len(paths), _N_FILES_PER_TASK)))
    return (
        pa.chunked_array([marks for marks, _ in parts], pa.string()),
        pa.chunked_array([sizes for _, sizes in parts], pa.int64()),
    )


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """An array in memory of the system: Arrow's own takes three times as much for many small ones."""
    return pa.array(values, kind, memory_pool=pa.system_memory_pool())


def unread(schema: pa.Schema) -> pa.Schema:
    """The schema of a listing whose files were not read: versions in place of checksums, and sizes where known."""
    place = schema.get_field_index("sha256")
    schema = schema.set(place, pa.field("version", pa.string(), nullable=False))
    return schema.set(schema.get_field_index("n_bytes"), pa.field("n_bytes", pa.int64()))


def mark_of(schema: pa.Schema) -> str:
    """The column of a listing that tells whether a file is the one that was registered: `sha256` or `version`."""
    return "sha256" if "sha256" in schema.names else "version"


def _stamped(source: ImageSource, path: str) -> tuple[str, int | None]:
    """Version of an image's file, which is not read, and its size where known.

    Raises:
        UserError: the file is missing, or the source cannot tell whether it was replaced.
    """
    with readable(source, path):
        stamp = source.stamp(path)
    if not stamp.version:
        raise UserError(
            f"{source.uri}: only reading an image tells whether it was replaced: take the checksums at the"
            " registration (--checksums registration)"
        )
    return stamp.version, stamp.n_bytes


def fingerprint_of(rows: Iterable[tuple[str, str, str]], groups_of: Mapping[str, str] | None = None) -> str:
    """sha256 (hex) of `path NUL class_id NUL sha256 LF` in UTF-8 for each row.

    Before the LF of an image with a group stands `NUL group`. An image has a row for each of its classes. No path, id
    or group contains a NUL, so different sets of rows never give the same text.

    Args:
        rows: path, class id and sha256 (hex), sorted by path, then class id. Of a file that was not read `version V` in
            place of the checksum.
        groups_of: by path the group of every image that has one.
    """
    groups = groups_of or {}
    digest = hashlib.sha256()
    for path, class_id, sha256 in rows:
        group = f"\0{groups[path]}" if path in groups else ""
        digest.update(f"{path}\0{class_id}\0{sha256}{group}\n".encode())
    return digest.hexdigest()


def make_dataset(
    source: ImageSource,
    classes_of: Mapping[str, tuple[str, ...]],
    class_names: Mapping[str, str],
    groups_of: Mapping[str, str] | None = None,
    digests: Mapping[str, tuple[str, int]] | None = None,
    *,
    checksums: WhenRead = "registration",
) -> ImageDataset:
    """Hash the files, or look only at their versions, and make the data set.

    Args:
        source: where the images are.
        classes_of: by path the sorted class ids of the image.
        class_names: by class id what the data set calls the class.
        groups_of: by path the group of every image that has one.
        digests: by path sha256 (hex) and size of the files that need not be read.
        checksums: when files are read; those of `digests` were read already.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    paths = sorted(classes_of)
    known = digests or {}
    is_unread = checksums == "extraction" and any(path not in known for path in paths)
    if is_unread:
        marks, sizes = _columns(paths, lambda some: [_stamped(source, path) for path in some])
    else:
        marks, sizes = hash_files(source, paths, known)
    has_several = any(len(ids) > 1 for ids in classes_of.values())
    schema = MULTI_LABEL_LISTING_SCHEMA if has_several else LISTING_SCHEMA
    schema = unread(schema) if is_unread else schema
    classes = [classes_of[path] if has_several else classes_of[path][0] for path in paths]
    columns: dict[str, Any] = {
        "image": np.arange(len(paths), dtype=np.int32),
        "path": paths,
        "class_ids" if has_several else "class_id": classes,
    }
    arrays = {name: _array(values, schema.field(name).type) for name, values in columns.items()}
    listing = pa.table(arrays | {mark_of(schema): marks, "n_bytes": sizes}, schema=schema)
    if groups_of:
        listing = listing.append_column(GROUP_FIELD, pa.array(map(groups_of.get, paths), pa.string()))
    of_rows = (mark for chunk in marks.chunks for mark in chunk.to_pylist())
    rows = (
        (path, class_id, f"version {mark}" if is_unread else mark)
        for path, mark in zip(paths, of_rows, strict=True)
        for class_id in classes_of[path]
    )
    fingerprint = fingerprint_of(rows, groups_of)
    return ImageDataset(source, fingerprint, listing, {key: class_names[key] for key in sorted(class_names)})
