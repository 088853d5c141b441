"""Labelled image data sets: listing, fingerprint, and the decoding of whatever an image file may be."""

from hsae.datasets.check import SkippedImage, check_images
from hsae.datasets.dataset import LISTING_SCHEMA, MULTI_LABEL_LISTING_SCHEMA, ImageDataset
from hsae.datasets.decoding.image import MAX_ASPECT_RATIO, DecodedImage, ImageFile, open_image
from hsae.datasets.decoding.memory_budget import MemoryBudget
from hsae.datasets.decoding.unreadable import NoMemoryForImageError, UnreadableImageError
from hsae.datasets.labels import LabelDecision, UnresolvedLabelsError
from hsae.datasets.mapping import write_mapping
from hsae.datasets.scan import decide_labels, scan
from hsae.datasets.sources.left_out import LeftOut
from hsae.datasets.sources.lookalikes import told_apart

__all__ = [
    "LISTING_SCHEMA",
    "MAX_ASPECT_RATIO",
    "MULTI_LABEL_LISTING_SCHEMA",
    "DecodedImage",
    "ImageDataset",
    "ImageFile",
    "LabelDecision",
    "LeftOut",
    "MemoryBudget",
    "NoMemoryForImageError",
    "SkippedImage",
    "UnreadableImageError",
    "UnresolvedLabelsError",
    "check_images",
    "decide_labels",
    "open_image",
    "scan",
    "told_apart",
    "write_mapping",
]
