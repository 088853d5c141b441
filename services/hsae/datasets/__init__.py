"""Labelled image data sets: listing, fingerprint, and decoding of image files."""

from hsae.datasets.check import SkippedImage, check_images
from hsae.datasets.dataset import (
    GROUP_FIELD,
    LISTING_SCHEMA,
    MULTI_LABEL_LISTING_SCHEMA,
    ImageDataset,
    WhenRead,
    mark_of,
)
from hsae.datasets.decision import LabelDecision
from hsae.datasets.decoding.image import MAX_ASPECT_RATIO, DecodedImage, ImageFile, open_image
from hsae.datasets.decoding.memory_budget import MemoryBudget
from hsae.datasets.decoding.unreadable import NoMemoryForImageError, UnreadableImageError
from hsae.datasets.labels import UnresolvedLabelsError
from hsae.datasets.mapping import write_mapping
from hsae.datasets.scan import decide_labels, scan
from hsae.datasets.sources.left_out import LeftOut
from hsae.datasets.sources.local_path import local_path, resolved
from hsae.datasets.sources.registry import register_source, source_at
from hsae.datasets.sources.similar_names import told_apart
from hsae.datasets.sources.source import Contents, ImageSource, ImageStream, SourceImage, Stamp

__all__ = [
    "GROUP_FIELD",
    "LISTING_SCHEMA",
    "MAX_ASPECT_RATIO",
    "MULTI_LABEL_LISTING_SCHEMA",
    "Contents",
    "DecodedImage",
    "ImageDataset",
    "ImageFile",
    "ImageSource",
    "ImageStream",
    "LabelDecision",
    "LeftOut",
    "MemoryBudget",
    "NoMemoryForImageError",
    "SkippedImage",
    "SourceImage",
    "Stamp",
    "UnreadableImageError",
    "UnresolvedLabelsError",
    "WhenRead",
    "check_images",
    "decide_labels",
    "local_path",
    "mark_of",
    "open_image",
    "register_source",
    "resolved",
    "scan",
    "source_at",
    "told_apart",
    "write_mapping",
]
