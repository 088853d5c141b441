"""A grid of latents' strongest images: HTML for a notebook, one picture for a file."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from hsae.api.shown.cards import LatentCard, ShownImage
from hsae.api.shown.html import image_tag, map_picture, opened
from hsae.errors import UserError

_GAP = 4
_TEXT_HEIGHT = 34
_FONT_SIZE = 12


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """What `Analysis.show` returns; a notebook shows it as a grid, a row for each latent.

    Attributes:
        cards: the latents with their images.
        side: the longest side of an image in pixels.
        asked: the question of which these are the latents; said where there is none.
    """

    cards: tuple[LatentCard, ...]
    side: int
    asked: str = "an empty list of latents"

    @property
    def nothing(self) -> str | None:
        """What it says where no latent fits; None where some do."""
        return None if self.cards else f"No latent fits. Asked: {self.asked}"

    def to_image(self) -> Image.Image:
        """The grid as one RGB picture."""
        cell, shown = self.side + _GAP, [image for card in self.cards for image in card.images]
        has_maps = any(image.relevancy or image.no_map for image in shown)
        n_columns = max((len(card.images) for card in self.cards), default=0) * (2 if has_maps else 1)
        font = ImageFont.load_default(_FONT_SIZE)
        texts = [f"{card.title}\n{card.scores}" for card in self.cards] or [str(self.nothing)]
        widest = max((font.getlength(line) for text in texts for line in text.split("\n")), default=0)
        width = max(int(widest) + 1, n_columns * cell) + 2 * _GAP
        height = max(1, len(self.cards)) * (_TEXT_HEIGHT + cell) + _GAP
        grid = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(grid)
        if self.nothing is not None:
            draw.text((_GAP, _GAP), self.nothing, fill="black", font=font)
        for number, card in enumerate(self.cards):
            top = _GAP + number * (_TEXT_HEIGHT + cell)
            draw.text((_GAP, top), texts[number], fill="black", font=font)
            left = _GAP
            for image in card.images:
                for picture in self._pictures(image):
                    grid.paste(picture, (left, top + _TEXT_HEIGHT))
                    left += cell
        return grid

    def _pictures(self, image: ShownImage) -> list[Image.Image]:
        """The image and its map; a grey square in place of what cannot be shown."""
        grey = Image.new("RGB", (self.side, self.side), "lightgrey")
        if image.picture is None:
            return [grey]
        shown = map_picture(image) or (None if image.no_map is None else grey)
        return [opened(image.picture), *([] if shown is None else [shown])]

    def save(self, path: str | Path) -> Path:
        """Write the grid as a picture.

        Args:
            path: of the file; the end of its name chooses the format, such as .png, .webp or .jpg.

        Returns:
            The path.

        Raises:
            UserError: the file cannot be written, or its name has no known ending.
        """
        path = Path(path).expanduser()
        try:
            self.to_image().save(path)
        except ValueError as error:
            raise UserError(f"{path}: its ending names no format for pictures: write .png, .webp or .jpg") from error
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror or error})") from error
        return path

    def _repr_html_(self) -> str:
        if self.nothing is not None:
            return f'<div class="hsae-gallery">{escape(self.nothing)}</div>'
        rows = [
            f'<div style="margin:6px 0"><div><b>{escape(card.title)}</b> <span style="opacity:.75">'
            f"{escape(card.scores)}</span></div>"
            f'<div style="white-space:nowrap;overflow-x:auto">'
            f"{''.join(image_tag(image, self.side) for image in card.images)}</div></div>"
            for card in self.cards
        ]
        return f'<div class="hsae-gallery">{"".join(rows)}</div>'

    def __repr__(self) -> str:
        return f"<Gallery of {len(self.cards)} latents>" if self.nothing is None else f"<Gallery: {self.nothing}>"
