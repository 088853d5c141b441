"""Labelled image data sets: listing, fingerprint, and the decoding of whatever an image file may be."""

from hsae.datasets.check import SkippedImage, check_images
from hsae.datasets.dataset import LISTING_SCHEMA, MULTI_LABEL_LISTING_SCHEMA, ImageDataset
from hsae.datasets.image import UnreadableImageError, open_image
from hsae.datasets.left_out import LeftOut
from hsae.datasets.lookalikes import told_apart
from hsae.datasets.scan import scan

__all__ = [
    "LISTING_SCHEMA",
    "MULTI_LABEL_LISTING_SCHEMA",
    "ImageDataset",
    "LeftOut",
    "SkippedImage",
    "UnreadableImageError",
    "check_images",
    "open_image",
    "scan",
    "told_apart",
]
