"""`hsae.split`: which images train, which choose latents, and which are scored."""

from typing import Any

import numpy as np

from hsae.api.arrays.labels import WORDNET, LabelsLike, TaxonomyLike, label_images, listed
from hsae.datasets.split import split_images
from hsae.errors import UserError
from hsae.hierarchy.scored_activations import ImageParts
from hsae.split_config import SplitConfig, parse_split

Split = str | SplitConfig | ImageParts | None
"""Shares such as "0.5/0.25/0.25", their config, the images of each part; None: in-sample."""
DEFAULT_SHARES = "0.5/0.25/0.25"


def split(
    labels: LabelsLike, shares: str | SplitConfig = DEFAULT_SHARES, *, taxonomy: TaxonomyLike = WORDNET
) -> ImageParts:
    """Divide images into parts as the pipeline does, so that an SAE is trained on other images than are scored.

    Train on `x[parts.train]`, and give the parts to `hsae.score(..., split=parts)`.

    Args:
        labels: of every image, as for `hsae.score`; every class is divided by itself.
        shares: of the images that train, choose and score, or a `SplitConfig` with a seed.
        taxonomy: as for `hsae.score`.

    Returns:
        Positions of the images that train, select and score. Where more than half of the classes have too few images
        for three parts, there are two halves, of which the first trains and selects.

    Raises:
        UserError: the shares cannot be read, a label is unknown, or there are too few classes or images; one line.
    """
    given = listed(labels)
    parts = image_parts(shares, label_images(given, taxonomy, len(given)).listing)
    if parts is None:
        raise UserError(f"a split needs shares of three parts such as {DEFAULT_SHARES}: {shares!r} leaves all in one")
    return parts


def image_parts(split: Any, listing: Any) -> ImageParts | None:
    """The parts of a split; None: in-sample.

    Args:
        split: see `Split`.
        listing: one row per image with its classes.

    Raises:
        UserError: it is no split of these images.
    """
    if isinstance(split, ImageParts):
        n_images = listing.num_rows
        return ImageParts(*(_positions(getattr(split, name), name, n_images) for name in ("train", "select", "score")))
    if split is not None and not isinstance(split, str | SplitConfig):
        raise UserError(
            f"the split is a {type(split).__name__}: give shares such as {DEFAULT_SHARES!r}, a SplitConfig, what"
            " hsae.split gives, or None"
        )
    config = parse_split(split) if isinstance(split, str) else split
    if config is None:
        return None
    found = split_images(listing, config)
    return ImageParts(*(np.flatnonzero(part) for part in (found.train, found.select, found.score)))


def _positions(given: Any, name: str, n_images: int) -> np.ndarray:
    """The images of a part, ascending."""
    found = np.asarray(given)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found):
        raise UserError(f"split.{name} is {found.dtype}{list(found.shape)}: give the positions of its images")
    if found.min() < 0 or found.max() >= n_images:
        raise UserError(f"split.{name} has positions {found.min()} to {found.max()}: there are {n_images} images")
    return np.unique(found).astype(np.int64)
