"""Which images of a registered data set cannot be used."""

from hsae.catalog import Dataset
from hsae.datasets import ImageDataset, SkippedImage, check_images, source_at
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import read_listing
from hsae.store.objects import ObjectStore


def unreadable_images(store: ObjectStore, dataset: Dataset, *, max_pixels: int) -> list[SkippedImage]:
    """Decode every image of a registered data set; returns those that cannot be used, in the order of its listing.

    Raises:
        UserError: a file is missing or cannot be read at all.
    """
    images = ImageDataset(
        source=source_at(dataset.root),
        fingerprint=dataset.fingerprint,
        listing=read_listing(store, dataset_ref(dataset)),
        class_names={},
    )
    return check_images(images, max_pixels=max_pixels)
