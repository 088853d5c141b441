"""The parts of a registered data set."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from hsae.datasets import mark_of
from hsae.datasets.split import ImageSplit, split_images, split_scored_images
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.inputs.stored import read_listing
from hsae.split_config import ScoreSplit, SplitConfig
from hsae.store.objects import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

WantedImages = Bool[np.ndarray, "n_listed"]
"""Whether an image of the data set's listing is wanted, by its number there."""


def read_split(store: ObjectStore, dataset: DatasetRef, split: SplitConfig | ScoreSplit) -> ImageSplit:
    """The part of every image of a registered data set, made from its listing.

    Raises:
        UserError: the images cannot be split; see `split_images`.
    """
    return split_listing(read_listing(store, dataset), split)


def split_listing(listing: "pa.Table", split: SplitConfig | ScoreSplit) -> ImageSplit:
    """The part of every image: of three parts, or, where another data set trains, of two.

    Raises:
        UserError: the images cannot be split; see `split_images` and `split_scored_images`.
    """
    return split_scored_images(listing, split) if isinstance(split, ScoreSplit) else split_images(listing, split)


def read_split_apart(
    store: ObjectStore, dataset: DatasetRef, scored: DatasetRef, split: ScoreSplit
) -> tuple[ImageSplit, list[str]]:
    """The part of every image of a data set that is scored where another one trains, and what a user should know.

    Args:
        store: with the listings.
        dataset: the images that train.
        scored: the images that select and score.
        split: how the latter are divided.

    Raises:
        UserError: the images cannot be split.
    """
    of_training, of_scored = read_listing(store, dataset), read_listing(store, scored)
    parts = split_listing(of_scored, split)
    notes = list(parts.notes())
    lacking = len(_classes(of_scored) - _classes(of_training))
    if lacking:
        notes.append(
            f"{lacking} of the {parts.n_classes} classes of {scored.name} have no image in {dataset.name}: SAEs need"
            " none, but probes, class_mean and absorption learn classes from the images that train"
        )
    unread = [
        one.name
        for one, listing in ((dataset, of_training), (scored, of_scored))
        if mark_of(listing.schema) != "sha256"
    ]
    if unread:
        notes.append(
            f"whether {dataset.name} and {scored.name} share images is not known: the files of {' and '.join(unread)}"
            " are read by the extraction first"
        )
        return parts, notes
    n_same = len(set(of_training["sha256"].to_pylist()) & set(of_scored["sha256"].to_pylist()))
    if n_same:
        notes.append(
            f"{n_same} images are in {dataset.name} and in {scored.name}: they train, and they are chosen or scored on"
        )
    return parts, notes


def _classes(listing: "pa.Table") -> set[str]:
    if "class_ids" in listing.column_names:
        return {class_id for ids in listing["class_ids"].to_pylist() for class_id in ids}
    return set(listing["class_id"].to_pylist())
