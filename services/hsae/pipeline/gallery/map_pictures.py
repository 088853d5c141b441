"""Stored relevancy maps over the images that they explain, as small pictures."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from hsae.errors import UserError
from hsae.pipeline.gallery.stored_maps import read_maps
from hsae.pipeline.gallery.thumbnails import Thumbnails
from hsae.relevancy.overlay import overlay, visible_part
from hsae.store.objects import ObjectStore

_QUALITY = 80


def map_pictures(
    store: ObjectStore, thumbnails: Thumbnails, rows: Sequence[Mapping[str, Any]]
) -> dict[tuple[int, int, str], bytes]:
    """Each map over the thumbnail of its image, by analysis, latent and path; without those that are undefined.

    An image that cannot be shown is left out, too: whoever shows it says so.

    Args:
        store: with the maps.
        thumbnails: of the images.
        rows: of `hsae.catalog.findings.maps.map_rows`, of one method.

    Raises:
        ObjectMissingError, ObjectCorruptError: the maps are lost.
    """
    found: dict[tuple[int, int, str], bytes] = {}
    for row, values in zip(rows, read_maps(store, rows), strict=True):
        if values is None:
            continue
        try:
            content = thumbnails.get(row["root"], row["path"])
        except UserError:  # the image, its source or its server
            continue
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("RGB")
        drawn = io.BytesIO()
        overlay(image, values, visible_part(row["preprocessing"], image.size)).save(drawn, "WEBP", quality=_QUALITY)
        found[row["analysis_id"], row["latent"], row["path"]] = drawn.getvalue()
    return found
