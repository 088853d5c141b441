"""Relevancy maps of a latent over its strongest images: which there are, and each as a picture."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from hsae.catalog.findings.maps import map_rows
from hsae.errors import UserError
from hsae.explorer.parameters import MAX_ID, MAX_INT, ThumbnailQuery
from hsae.explorer.reading.map_values import map_values
from hsae.explorer.scope import UnknownError
from hsae.explorer.shown.placeholders import placeholder
from hsae.explorer.shown.rendering import sources_of
from hsae.pipeline.gallery.map_pictures import map_picture
from hsae.pipeline.gallery.thumbnails import MEDIA_TYPE
from hsae.relevancy.config import EXPLAINING

# Another set of maps may take the place of one, so it is not kept as long as an image.
_MINUTES = "private, max-age=600"
_NONE_OF_IMAGE = "no map was made of this image"
_UNDEFINED = "the map is undefined: no value of it is above 0"


def maps_of_latent(session: Session, analysis: int, basis: str, latent: int, images: Iterable[int]) -> dict[str, Any]:
    """What a latent's page shows of maps.

    Returns:
        `maps`, for each of the images None where it has a map, else why it has none; empty where the latent has no map
        at all. And `map_method`.
    """
    rows = _explaining(session, analysis, latent) if basis == "sae" else {}
    if not rows:
        return {"maps": {}, "map_method": None}
    undefined = {image: None if row["map_index"] is not None else _UNDEFINED for image, row in rows.items()}
    method = " or ".join(dict.fromkeys(str(row["method"]) for row in rows.values()))
    return {
        "maps": {image: undefined.get(image, _NONE_OF_IMAGE) for image in images},
        "map_method": method,
    }


def map_image(request: Request) -> Response:
    """A map over its image; a placeholder that says why where one of them cannot be had."""
    side = ThumbnailQuery.of(request.query_params).side
    analysis, latent, image = (request.path_params[name] for name in ("analysis", "latent", "image"))
    sources = sources_of(request)
    rows: Mapping[int, Mapping[str, Any]] = {}
    if analysis <= MAX_ID and latent <= MAX_INT:
        with sources.reading() as session:
            rows = _explaining(session, analysis, latent)
    if image not in rows:
        raise UnknownError("There is no relevancy map of that latent and image.")
    row = rows[image]
    try:
        if row["map_index"] is None:
            raise UserError(_UNDEFINED)
        values = map_values(sources.copies, row)
        content = sources.thumbnails.get(row["root"], row["path"], side=side)
    except UserError as error:
        return Response(placeholder(str(error), side), media_type="image/svg+xml", headers={"X-Placeholder": "1"})
    drawn = map_picture(content, values, row["preprocessing"])
    return Response(drawn, media_type=MEDIA_TYPE, headers={"Cache-Control": _MINUTES})


def _explaining(session: Session, analysis: int, latent: int) -> dict[int, Mapping[str, Any]]:
    """The latent's maps by image, of the preferred method that the image has; controls are left out."""
    rows = map_rows(session, analysis, [latent], methods=EXPLAINING)
    rows.sort(key=lambda row: -EXPLAINING.index(row["method"]))  # the preferred one replaces the other
    return {row["image"]: row for row in rows}
