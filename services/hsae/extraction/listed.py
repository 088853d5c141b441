"""Rows of a data set's listing, as extraction reads their images."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from hsae.datasets import mark_of


@dataclass(frozen=True, slots=True)
class ListedImage:
    """A row of a data set's listing.

    Attributes:
        image: its number.
        path: what its source knows it by.
        sha256: checksum (hex) of its file; None where the file was not read at the registration.
        version: what its source said of the file then, where it was not read.
    """

    image: int
    path: str
    sha256: str | None
    version: str | None = None


def listed_images(listing: pa.Table, images: Iterable[int]) -> list[ListedImage]:
    """Some images of a listing, by their numbers, in the order of these."""
    numbers = list(images)
    mark = mark_of(listing.schema)
    chosen = listing.select(["path", mark]).take(pa.array(numbers, pa.int64()))
    paths, marks = (column.to_pylist() for column in chosen.columns)
    if mark == "sha256":
        return [ListedImage(*row) for row in zip(numbers, paths, marks, strict=True)]
    return [ListedImage(number, path, None, mark) for number, path, mark in zip(numbers, paths, marks, strict=True)]
