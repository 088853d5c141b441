"""The parts of a registered data set."""

from hsae.datasets.split import ImageSplit, split_images
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.inputs.stored import read_listing
from hsae.split_config import SplitConfig
from hsae.store.objects import ObjectStore


def read_split(store: ObjectStore, dataset: DatasetRef, split: SplitConfig) -> ImageSplit:
    """The part of every image of a registered data set, made from its listing.

    Raises:
        UserError: the images cannot be split; see `split_images`.
    """
    return split_images(read_listing(store, dataset), split)
