"""Labelled image data sets: listing, fingerprint, and the decoding of whatever an image file may be."""

from hsae.datasets.check import SkippedImage, check_images
from hsae.datasets.dataset import LISTING_SCHEMA, MULTI_LABEL_LISTING_SCHEMA, ImageDataset
from hsae.datasets.image import MAX_ASPECT_RATIO, DecodedImage, ImageFile, open_image
from hsae.datasets.labels import LabelDecision, UnresolvedLabelsError
from hsae.datasets.left_out import LeftOut
from hsae.datasets.lookalikes import told_apart
from hsae.datasets.mapping import write_mapping
from hsae.datasets.memory_budget import MemoryBudget
from hsae.datasets.scan import decide_labels, scan
from hsae.datasets.unreadable import NoMemoryForImageError, UnreadableImageError

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
