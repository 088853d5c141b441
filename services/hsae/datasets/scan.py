"""From a folder of images or a CSV to a data set whose every class is a synset."""

import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from hsae.datasets.dataset import ImageDataset, make_dataset
from hsae.datasets.image_folder import check_utf8, class_folders, has_images_only_below, images_of
from hsae.datasets.left_out import LeftOut
from hsae.datasets.lookalikes import lookalike_hint, told_apart
from hsae.errors import UserError
from hsae.taxonomy import Synset, Taxonomy
from hsae.taxonomy.csv_rows import CsvRow, read_csv_rows

_MAPPING_COLUMNS = ("folder", "synset")


def scan(path: Path, taxonomy: Taxonomy, *, mapping: Path | None = None) -> ImageDataset:
    """List a labelled image data set, resolve its labels and hash its files. Images are not decoded.

    path: a folder of class folders, whose names are the labels; or a CSV with the columns path,label, whose
        paths are relative to the CSV's folder or absolute, and which gives an image a label in each of its rows.
    mapping: a CSV with the columns folder,synset that says which synset a folder name or label stands for;
        one that it does not list stands for itself. Labels of the same synset become one class.

    Raises `UserError` for whatever would make the data set wrong or useless: a missing file, a label that is
    no synset, an image listed under two paths, a class without images, fewer than two classes.
    """
    path = path.absolute()
    check_utf8(str(path))
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such folder or file{lookalike_hint(path)}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{str(path)!r}: cannot be read ({error})") from error
    left_out = LeftOut()
    if stat.S_ISDIR(mode):
        root, labels_of, synsets = path, *_scan_folder(path, taxonomy, mapping, left_out)
    elif path.suffix.lower() == ".csv":
        root, labels_of, synsets = path.parent, *_scan_csv(path, taxonomy, mapping)
    else:
        raise UserError(f"{path}: is neither a folder of class folders nor a .csv with the columns path,label")

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
    return replace(dataset, merged=merged, left_out=left_out)


def _scan_folder(
    root: Path, taxonomy: Taxonomy, mapping: Path | None, left_out: LeftOut
) -> tuple[dict[str, tuple[str, ...]], dict[str, Synset]]:
    """The labels (here: the label) of every image by path, and the synset of every label; counts what is left out."""
    folders = class_folders(root, left_out)
    if not folders:
        found = f" (found: {LeftOut(left_out.beside, folders=left_out.folders).text()})" if left_out else ""
        raise UserError(
            f"{root}: holds no class folders{found}; put the images of each class into a folder of its own, or list"
            " them with their labels in a CSV path,label and give that"
        )
    mapped = _read_mapping(mapping, folders, taxonomy)
    synsets = {}
    for folder in folders:
        try:
            synsets[folder] = mapped.get(_key(folder)) or taxonomy.resolve(folder)
        except UserError as error:
            split = f"; or give {root / folder} itself, if its folders are the classes"
            hint = split if has_images_only_below(root / folder) else ""
            raise UserError(
                f"class folder {folder!r} of {root}: {error}; rename the folder, or map it to a synset "
                f"with a CSV of {','.join(_MAPPING_COLUMNS)}{hint}"
            ) from error
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
    return labels_of, synsets


def _scan_csv(
    listing: Path, taxonomy: Taxonomy, mapping: Path | None
) -> tuple[dict[str, tuple[str, ...]], dict[str, Synset]]:
    """Like `_scan_folder`. A listed file is taken at its word: its suffix does not matter.

    A row again counts once: lists of objects have a row for every dog of an image.
    """
    root = listing.parent
    labels_of: dict[str, tuple[str, ...]] = {}
    first_row: dict[str, tuple[int, str]] = {}
    line_of_label: dict[str, int] = {}
    for row in read_csv_rows(listing, ("path", "label")):
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
        line_of_label.setdefault(label, row.line)
    mapped = _read_mapping(mapping, line_of_label, taxonomy)
    synsets = {}
    for label, line in line_of_label.items():
        try:
            synsets[label] = mapped.get(_key(label)) or taxonomy.resolve(label)
        except UserError as error:
            raise UserError(
                f"{listing}, line {line}: label {label!r}: {error}; correct the label, or map it to a synset "
                f"with a CSV of {','.join(_MAPPING_COLUMNS)}"
            ) from error
    return labels_of, synsets


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


def _read_mapping(mapping: Path | None, labels: Iterable[str], taxonomy: Taxonomy) -> Mapping[str, Synset]:
    """The synsets that the mapping gives to `labels`, by `_key`.

    Rows for labels that do not occur are fine in a mapping that covers all that do, such as one for a larger
    data set. Beside a label that is not covered, such a row may be a misspelling of it: a `UserError`.
    """
    if mapping is None:
        return {}
    present = {_key(label): label for label in labels}
    rows = read_csv_rows(mapping, _MAPPING_COLUMNS)
    wanted: dict[str, str] = {}
    synsets: dict[str, Synset] = {}
    for row in rows:
        written, name = _key(row.written[0]), row.values[1]
        label = written if written in present else _key(row.values[0])
        if wanted.setdefault(label, name) != name:
            raise UserError(f"{mapping}, line {row.line}: {label!r} is already mapped to {wanted[label]!r}")
        if label in present:
            try:
                synsets[label] = taxonomy.resolve(name)
            except UserError as error:
                raise UserError(f"{mapping}, line {row.line}: {error}") from error
    unmapped = [label for key, label in present.items() if key not in synsets]
    unused = [row for row in rows if not {_key(row.written[0]), _key(row.values[0])} & present.keys()]
    if unmapped and unused:
        raise UserError(
            f"{mapping}, line {unused[0].line}: the data set has no {unused[0].values[0]!r}, "
            f"and {unmapped[0]!r} is not mapped; correct the row or delete it"
        )
    return synsets


def _key(label: str) -> str:
    """One form for equal labels: file systems and spreadsheets disagree on how an accent is encoded."""
    return unicodedata.normalize("NFC", label)
