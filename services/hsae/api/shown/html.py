"""Images as data in a page. Whatever comes from labels or file names is escaped."""

import io
from html import escape

from PIL import Image

from hsae.api.shown.cards import ShownImage
from hsae.pipeline.gallery.thumbnails import data_uri
from hsae.relevancy.overlay import overlay, visible_part

_PLACEHOLDER = (
    '<span style="display:inline-block;width:{side}px;min-height:{half}px;border:1px dashed #888;font-size:11px;'
    'overflow-wrap:anywhere">{problem}</span>'
)


def image_tag(image: ShownImage, side: int) -> str:
    """An image, and beside it its relevancy map if it has one; or a placeholder that says why not."""
    if image.picture is None:
        return _PLACEHOLDER.format(side=side, half=side // 2, problem=escape(image.problem or "no picture"))
    about = escape(f"image {image.image}: {image.path}, activation {image.activation:.3g}", quote=True)
    tags = [_tag(image.picture, about)]
    shown = map_picture(image)
    if image.no_map is not None:
        tags.append(_PLACEHOLDER.format(side=side, half=side // 2, problem=escape(image.no_map)))
    if shown is not None:
        written = io.BytesIO()
        shown.save(written, "WEBP", quality=80)
        tags.append(_tag(written.getvalue(), f"relevancy, {about}"))
    return "".join(tags)


def map_picture(image: ShownImage) -> Image.Image | None:
    """The picture under its relevancy map; None without one."""
    if image.picture is None or image.relevancy is None:
        return None
    picture = opened(image.picture)
    return overlay(picture, image.relevancy.values, visible_part(image.relevancy.preprocessing, picture.size))


def opened(content: bytes) -> Image.Image:
    """A picture of our own making as RGB."""
    with Image.open(io.BytesIO(content), formats=("WEBP",)) as image:
        return image.convert("RGB")


def _tag(content: bytes, about: str) -> str:
    return f'<img src="{data_uri(content)}" alt="{about}" title="{about}" style="margin:1px;vertical-align:top">'
