"""The validation images of ImageNet-1k in one flat folder, with the labels from a file nearby, as an image source."""

import csv
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from scipy.io import loadmat

from hsae.datasets.sources.left_out import LeftOut, kind_of
from hsae.datasets.sources.local_files import LocalFiles
from hsae.datasets.sources.source import Contents, SourceImage
from hsae.errors import UserError

_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_KAGGLE = "LOC_val_solution.csv"
_LISTS = ("synset_labels.txt", "imagenet_2012_validation_synset_labels.txt")
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_DEVKIT = Path("ILSVRC2012_devkit_t12/data")
_LEVELS_UP = 4
_LOOKED_AT = 64


class ImageNetValSource(LocalFiles):
    """A folder with `ILSVRC2012_val_00000001.JPEG` and so on.

    The labels are looked for in the folder and in those above it: Kaggle's `LOC_val_solution.csv`, a list of the wnids
    of images 1 to 50,000 (`synset_labels.txt`), or the development kit's ground truth with its `meta.mat`.
    """

    def __init__(self, path: Path) -> None:
        """Make the source of an absolute path."""
        super().__init__(path, path)

    def list(self) -> Contents:
        """See `ImageSource`."""
        left_out = LeftOut()
        images = []
        unlabelled = []
        for entry in sorted(entry.name for entry in self.path.iterdir()):
            found = _NAME.fullmatch(entry)
            if found is None:
                left_out.files[kind_of(entry)] += 1
                continue
            label = self._wnids.get(int(found[1]))
            if label is None:
                unlabelled.append(entry)
            else:
                images.append(SourceImage(entry, (label,)))
        if unlabelled:
            raise UserError(
                f"{self._labels_file}: has no label for {len(unlabelled)} of the images of {self.path}, first"
                f" {unlabelled[0]}; it is of another set of images"
            )
        return Contents(images, left_out)

    def labels(self) -> dict[str, str]:
        """See `ImageSource`."""
        return {label: f"{self._labels_file}: label {label!r}" for label in sorted(set(self._wnids.values()))}

    @cached_property
    def _labels_file(self) -> Path:
        """The file of labels, the nearest one.

        Raises:
            UserError: there is none.
        """
        for folder in [self.path, *self.path.parents][: _LEVELS_UP + 1]:
            for name in (_KAGGLE, *_LISTS, _TRUTH, _DEVKIT / _TRUTH):
                if (folder / name).is_file():
                    return folder / name
        raise UserError(
            f"{self.path}: holds ImageNet's validation images without class folders, and no file of their labels is in"
            f" it or above it; put {_KAGGLE}, {_LISTS[0]} or {_DEVKIT.parent} there"
        )

    @cached_property
    def _wnids(self) -> Mapping[int, str]:
        """The wnid of every image by its number, from 1."""
        path = self._labels_file
        try:
            if path.name == _KAGGLE:
                return dict(_of_kaggle(path))
            lines = path.read_text(encoding="utf-8").split()
            if path.name == _TRUTH:
                names = _of_meta(path.with_name(_META))
                return {number: names[int(line)] for number, line in enumerate(lines, start=1)}
            return dict(enumerate(lines, start=1))
        except (OSError, ValueError, KeyError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as labels of ImageNet's validation images ({error})") from error


def holds_imagenet_val(folder: Path) -> bool:
    """Whether a folder begins with such images and no folder; only its first entries are looked at."""
    try:
        with os.scandir(folder) as scanned:
            entries = list(itertools.islice(scanned, _LOOKED_AT))
            return any(map(_is_named, entries)) and not any(entry.is_dir() for entry in entries)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False


def _is_named(entry: os.DirEntry[str]) -> bool:
    return _NAME.fullmatch(entry.name) is not None


def _of_kaggle(path: Path) -> Iterator[tuple[int, str]]:
    """`ImageId,PredictionString`: the first word is the wnid, the others are boxes."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield int(row["ImageId"].rpartition("_")[2]), row["PredictionString"].split()[0]


def _of_meta(path: Path) -> dict[int, str]:
    """The wnid of every ILSVRC2012_ID."""
    rows: Any = loadmat(path, squeeze_me=True)["synsets"]
    return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
