"""Stored relevancy maps over the images that they explain, as small pictures."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from hsae.errors import UserError
from hsae.pipeline.gallery.stored_maps import PatchMap, read_maps
from hsae.pipeline.gallery.thumbnails import Thumbnails
from hsae.relevancy.overlay import overlay, visible_part
from hsae.store.objects import ObjectStore

_FORMAT = "WEBP"
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
        found[row["analysis_id"], row["latent"], row["path"]] = map_picture(content, values, row["preprocessing"])
    return found


def map_picture(content: bytes, values: PatchMap, preprocessing: Mapping[str, Any]) -> bytes:
    """A map over the picture of its image, as WebP (`MEDIA_TYPE`).

    Args:
        content: the image's picture, of `Thumbnails`.
        values: the map.
        preprocessing: of the model, which tells which part of the image it saw.
    """
    with Image.open(io.BytesIO(content), formats=(_FORMAT,)) as opened:
        image = opened.convert("RGB")
    drawn = io.BytesIO()
    overlay(image, values, visible_part(preprocessing, image.size)).save(drawn, _FORMAT, quality=_QUALITY)
    return drawn.getvalue()
