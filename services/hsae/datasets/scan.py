"""From a folder of images or a CSV to a data set whose every class is a synset."""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from hsae.datasets.dataset import ImageDataset, make_dataset
from hsae.datasets.labels import LabelDecision, decide, synsets_of
from hsae.datasets.sources.folder import check_utf8, class_folders, has_images_only_below, images_of
from hsae.datasets.sources.left_out import LeftOut
from hsae.datasets.sources.lookalikes import lookalike_hint, told_apart
from hsae.errors import UserError
from hsae.taxonomy import SenseChoice, Taxonomy
from hsae.taxonomy.csv_rows import CsvRow, read_csv_rows

_LISTING_COLUMNS = ("path", "label")


def scan(
    path: Path, taxonomy: Taxonomy, *, mapping: Path | None = None, senses: SenseChoice | None = None
) -> ImageDataset:
    """List a labelled image data set, resolve its labels and hash its files. Images are not decoded.

    path: a folder of class folders, whose names are the labels; or a CSV with the columns path,label, whose
        paths are relative to the CSV's folder or absolute, and which gives an image a label in each of its rows.
    mapping: a CSV with the columns folder,synset that says which synset a folder name or label stands for;
        one that it does not list stands for itself. Labels of the same synset become one class.
    senses: which sense of a word is meant that has several.

    Raises `UserError` for whatever would make the data set wrong or useless: a missing file, labels that are
    no synsets, an image listed under two paths, a class without images, fewer than two classes. What can be seen
    without a look at the images comes first.
    """
    path = path.absolute()
    left_out = LeftOut()
    if is_folder(path):
        root, folders = path, _class_folders(path, left_out)
        decisions = decide(_where_folders_are(path, folders), taxonomy, mapping, senses)
        synsets = synsets_of(decisions, taxonomy, path, remedy="rename the folder", hint=_split_hint(path, decisions))
        labels_of = _images_of_folders(path, folders, left_out)
    else:
        root, rows = path.parent, read_csv_rows(path, _LISTING_COLUMNS)
        decisions = decide(_where_labels_are(path, rows), taxonomy, mapping, senses)
        synsets = synsets_of(decisions, taxonomy, path, remedy="correct the label")
        labels_of = _images_of_rows(path, rows)

    names: dict[str, list[str]] = {}
    for label in sorted(synsets):
        names.setdefault(synsets[label].id, []).append(label)
    if len(names) < 2:
        ((only, called),) = names.items()
        raise UserError(
            f"{path}: all images are of one class ({' = '.join(told_apart(called))}, {only}); a hierarchy needs two"
        )
    ids_of = {labels: tuple(sorted({synsets[label].id for label in labels})) for labels in set(labels_of.values())}
    dataset = make_dataset(
        root,
        {image: ids_of[labels] for image, labels in labels_of.items()},
        {class_id: called[0] for class_id, called in names.items()},
    )
    merged = {class_id: tuple(names[class_id]) for class_id in dataset.class_ids if len(names[class_id]) > 1}
    return replace(dataset, merged=merged, left_out=left_out, decisions=decisions)


def decide_labels(
    path: Path, taxonomy: Taxonomy, *, mapping: Path | None = None, senses: SenseChoice | None = None
) -> tuple[LabelDecision, ...]:
    """What the labels of the data set at `path` stand for, as `scan` decides it; no image is looked at.

    Raises:
        UserError: for a data set whose labels cannot be listed, and a mapping that cannot be used; not for a label
            without a synset.
    """
    path = path.absolute()
    if is_folder(path):
        where = _where_folders_are(path, _class_folders(path, LeftOut()))
    else:
        where = _where_labels_are(path, read_csv_rows(path, _LISTING_COLUMNS))
    return decide(where, taxonomy, mapping, senses)


def is_folder(path: Path) -> bool:
    """Whether the data set at `path` is a folder of class folders, and no CSV; a `UserError` if it is neither."""
    check_utf8(str(path))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such folder or file{lookalike_hint(path)}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{str(path)!r}: cannot be read ({error})") from error
    if not stat.S_ISDIR(mode) and path.suffix.lower() != ".csv":
        raise UserError(f"{path}: is neither a folder of class folders nor a .csv with the columns path,label")
    return stat.S_ISDIR(mode)


def _class_folders(root: Path, left_out: LeftOut) -> list[str]:
    folders = class_folders(root, left_out)
    if not folders:
        found = f" (found: {LeftOut(left_out.beside, folders=left_out.folders).text()})" if left_out else ""
        raise UserError(
            f"{root}: holds no class folders{found}; put the images of each class into a folder of its own, or list"
            " them with their labels in a CSV path,label and give that"
        )
    return folders


def _where_folders_are(root: Path, folders: Iterable[str]) -> dict[str, str]:
    return {folder: f"class folder {folder!r} of {root}" for folder in folders}


def _split_hint(root: Path, decisions: Iterable[LabelDecision]) -> str:
    """A hint at the folders of a data set with splits, where a label that has no synset looks like one."""
    for decision in decisions:
        if decision.meaning.synset is None and has_images_only_below(root / decision.label):
            split = root / decision.label
            return f"if the folders in class folder {decision.label!r} are the classes, give {split} itself"
    return ""


def _images_of_folders(root: Path, folders: Iterable[str], left_out: LeftOut) -> dict[str, tuple[str, ...]]:
    """The labels (here: the label) of every image by path; counts what is left out."""
    labels_of: dict[str, tuple[str, ...]] = {}
    for folder in folders:
        in_folder = LeftOut()
        images = images_of(root, folder, in_folder)
        if not images:
            other = f" ({in_folder.text()})" if in_folder else ""
            raise UserError(f"class folder {folder!r} of {root}: holds no images{other}; fill it or remove it")
        left_out.files.update(in_folder.files)
        left_out.folders.update(in_folder.folders)
        labels_of.update(dict.fromkeys(images, (folder,)))
    return labels_of


def _where_labels_are(listing: Path, rows: Iterable[CsvRow]) -> dict[str, str]:
    where: dict[str, str] = {}
    for row in rows:
        label = row.values[1]
        if label not in where:
            where[label] = f"{listing}, line {row.line}: label {label!r}"
    return where


def _images_of_rows(listing: Path, rows: Sequence[CsvRow]) -> dict[str, tuple[str, ...]]:
    """Like `_images_of_folders`. A listed file is taken at its word: its suffix does not matter.

    A row again counts once: lists of objects have a row for every dog of an image.
    """
    root = listing.parent
    labels_of: dict[str, tuple[str, ...]] = {}
    first_row: dict[str, tuple[int, str]] = {}
    for row in rows:
        path, label = PurePosixPath(_listed_name(root, row)).as_posix(), row.values[1]
        where = f"{listing}, line {row.line}"
        file = os.path.normpath(root / path)
        line, name = first_row.setdefault(file, (row.line, path))
        if line == row.line:
            _check_regular_file(root / path, where)
        elif path not in labels_of:
            raise UserError(
                f"{where}: {path} is listed again, after line {line}, where it is called {name}; "
                "write the path of an image the same way in all its rows"
            )
        if label not in labels_of.get(path, ()):
            labels_of[path] = (*labels_of.get(path, ()), label)
    return labels_of


def _listed_name(root: Path, row: CsvRow) -> str:
    """The path of a row: with the spaces around it where there is such a file, else without them."""
    written = row.written[0]
    return written if written != row.values[0] and os.path.lexists(root / written) else row.values[0]


def _check_regular_file(path: Path, where: str) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        hint = "; separate folders with /" if "\\" in str(path) else lookalike_hint(path)
        raise UserError(f"{where}: there is no file {path}{hint}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{where}: {str(path)!r} cannot be read ({error})") from error
    if not stat.S_ISREG(mode):
        raise UserError(f"{where}: {path} is no regular file")
