"""Thumbnails of a data set's images for a notebook, with the reason where one cannot be shown."""

from functools import cache
from pathlib import Path

import platformdirs

from hsae.errors import UserError
from hsae.pipeline.gallery.thumbnails import Thumbnails


@cache
def _thumbnails() -> Thumbnails:
    return Thumbnails(Path(platformdirs.user_cache_dir("hsae", appauthor=False)) / "thumbnails")


def picture(root: str, path: str, side: int) -> tuple[bytes | None, str | None]:
    """The WebP of an image, or why there is none.

    Args:
        root: of the data set.
        path: from its listing.
        side: the longest side at most, in pixels.
    """
    try:
        return _thumbnails().get(root, path, side=side), None
    except UserError as error:
        return None, str(error)
