"""The pictures of `results maps`: a latent's strongest images, and its maps over them."""

import io
from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from hsae.cli.framework.connections import Connections
from hsae.errors import UserError
from hsae.pipeline.gallery.stored_maps import read_maps
from hsae.pipeline.gallery.thumbnails import Thumbnails
from hsae.pipeline.upkeep.damage import losses_noted
from hsae.relevancy.overlay import overlay, sheet, visible_part


def write_pictures(connections: Connections, rows: list[dict[str, Any]], output: Path, side: int) -> Collection[str]:
    """Write a picture for each latent; every row gets its `file`.

    Args:
        connections: the service.
        rows: the maps, those of a latent together.
        output: the folder.
        side: pixels of an image's side.

    Returns:
        Why images are not available, a line for each reason.

    Raises:
        OSError: the folder cannot be written to.
    """
    with losses_noted(connections.sessions, "results maps"):
        values = read_maps(connections.store, rows)
    for row, value in zip(rows, values, strict=True):
        row["values"] = value
    output.mkdir(parents=True, exist_ok=True)
    pictures = _Pictures(Thumbnails(None), side)
    for (analysis, latent), of_latent in groupby(rows, key=lambda row: (row["analysis_id"], row["latent"])):
        found = list(of_latent)
        file = f"layer-{found[0]['layer']:02d}-analysis-{analysis}-latent-{latent}.png"
        sheet(pictures.of_latent(found), side).save(output / file)
        for row in found:
            row["file"] = file
    return pictures.unavailable


class _Pictures:
    """The images of latents and the maps over them; remembers why images are not available, a line for each reason."""

    def __init__(self, thumbnails: Thumbnails, side: int) -> None:
        self._thumbnails = thumbnails
        self._side = side
        self.unavailable: dict[str, None] = {}

    def of_latent(self, rows: Sequence[dict[str, Any]]) -> list[list[Image.Image | None]]:
        """The latent's images in one row, and a row of maps for each method."""
        ranks = sorted({row["rank"] for row in rows})
        methods = list(dict.fromkeys(row["method"] for row in rows))
        by_place = {(row["method"], row["rank"]): row for row in rows}
        images = {row["rank"]: (row["root"], row["path"]) for row in rows}
        opened = {rank: self._image(*images[rank]) for rank in ranks}
        found = [[opened[rank] for rank in ranks]]
        for method in methods:
            found.append([_map(by_place.get((method, rank)), opened[rank]) for rank in ranks])
        return found

    def _image(self, root: str, path: str) -> Image.Image | None:
        try:
            content = self._thumbnails.get(root, path, side=self._side)
        except UserError as error:
            self.unavailable[str(error)] = None
            return None
        return Image.open(io.BytesIO(content)).convert("RGB")


def _map(row: dict[str, Any] | None, image: Image.Image | None) -> Image.Image | None:
    if row is None or row["values"] is None or image is None:
        return None
    return overlay(image, row["values"], visible_part(row["preprocessing"], image.size))
