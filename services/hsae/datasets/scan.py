"""From an image source to a data set whose every class is a synset."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hsae.datasets.dataset import ImageDataset, WhenRead, make_dataset
from hsae.datasets.decision import LabelDecision
from hsae.datasets.labels import decide, synsets_of
from hsae.datasets.sources.registry import source_at
from hsae.datasets.sources.similar_names import told_apart
from hsae.datasets.sources.source import SourceImage
from hsae.errors import UserError
from hsae.taxonomy import SenseChoice, Taxonomy


def scan(
    location: str | Path,
    taxonomy: Taxonomy,
    *,
    mapping: Path | None = None,
    senses: SenseChoice | None = None,
    checksums: WhenRead = "registration",
) -> ImageDataset:
    """List a labelled image data set, resolve its labels and hash its files. Images are not decoded.

    Args:
        location: a URI or path that `source_at` finds a source for, such as a folder of class folders, whose names are
            the labels; or a CSV with the columns path,label and perhaps group, whose paths are relative to the CSV's
            folder or absolute, with a row for each label of an image.
        taxonomy: the labels are names of its nodes.
        mapping: a CSV with the columns folder,synset that says which synset a folder name or label stands for; one that
            it does not list stands for itself. Labels of the same synset become one class.
        senses: which sense to take of a word with several.
        checksums: "extraction" hashes no file; its version, such as size and time, stands for its content.

    Raises:
        UserError: the data set would be wrong or useless: a missing file, labels that are no synsets, an image listed
            under two paths, a class without images, fewer than two classes. What is visible without reading images is
            checked first.
    """
    source = source_at(location)
    source.check()
    decisions = decide(source.labels(), taxonomy, mapping, senses)
    if not decisions:
        raise UserError(f"{source.uri}: holds no images")
    unknown = [decision.label for decision in decisions if decision.meaning.synset is None]
    synsets = synsets_of(decisions, taxonomy, source.uri, remedy=source.remedy, hint=source.hint(unknown))
    contents = source.list()

    names: dict[str, list[str]] = {}
    for label in sorted(synsets):
        names.setdefault(synsets[label].id, []).append(label)
    if len(names) < 2:
        ((only, called),) = names.items()
        shown = " = ".join(told_apart(called))
        raise UserError(f"{source.uri}: all images are of one class ({shown}, {only}); a hierarchy needs two")
    ids_of = {
        labels: tuple(sorted({synsets[label].id for label in labels}))
        for labels in {image.labels for image in contents.images}
    }
    classes_of = _classes_by_path(source.uri, contents.images, ids_of)
    groups_of = {image.path: image.group for image in contents.images if image.group is not None}
    digests = {image.path: image.digest for image in contents.images if image.digest is not None}
    left_out = contents.left_out
    del contents  # of millions of images, and the longest part comes now
    class_names = {class_id: called[0] for class_id, called in names.items()}
    dataset = make_dataset(source, classes_of, class_names, groups_of, digests, checksums=checksums)
    merged = {class_id: tuple(names[class_id]) for class_id in dataset.class_ids if len(names[class_id]) > 1}
    return replace(dataset, merged=merged, left_out=left_out, decisions=decisions)


def decide_labels(
    location: str | Path, taxonomy: Taxonomy, *, mapping: Path | None = None, senses: SenseChoice | None = None
) -> tuple[LabelDecision, ...]:
    """What the labels of the data set at `location` stand for, as `scan` resolves them; no image is read.

    Raises:
        UserError: the labels cannot be listed, or the mapping cannot be used. A label without a synset is no error
            here.
    """
    source = source_at(location)
    source.check()
    return decide(source.labels(), taxonomy, mapping, senses)


def _classes_by_path(
    uri: str, images: Sequence[SourceImage], ids_of: Mapping[tuple[str, ...], tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    classes_of: dict[str, tuple[str, ...]] = {}
    for image in images:
        if image.path in classes_of:
            raise UserError(f"{uri}: lists the image {image.path} more than once; keep one")
        classes_of[image.path] = ids_of[image.labels]
    return classes_of
