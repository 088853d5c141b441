"""Opens one image file of any allowed format as 8-bit RGB, or says in a few words why it cannot.

Large images are processed in bands of rows: apart from the decoded pixels, at most 4 bytes each, this needs little
memory.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Self

# Named, so that each plugin is registered before threads start, and no other is ever asked: files come from
# anywhere, and fewer decoders are a narrower door.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from hsae.datasets.decoding.orientation import (
    FROM_THE_END,
    FROM_THE_RIGHT,
    ROWS_ARE_COLUMNS,
    UPRIGHT,
    orientation_of,
)
from hsae.datasets.decoding.rgb import as_rgb, check_range
from hsae.datasets.decoding.unreadable import UnreadableImageError, one_reason

_FORMATS = tuple(
    str(plugin.format)
    for plugin in (
        AvifImagePlugin.AvifImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        PpmImagePlugin.PpmImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)

# Images are read several at a time already; more threads would only take the cores from one another.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

# Pixels per band; a band has at least one row.
_BAND_PIXELS = 1 << 20

# Bytes per pixel: Pillow's own (4 for what is not listed), and what a decoder holds beside them at the same time.
_PIXEL_BYTES = MappingProxyType({"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2})
_DECODER_BYTES = MappingProxyType({"BMP": 0, "GIF": 4, "JPEG": 0, "MPO": 0, "PNG": 0, "TIFF": 8})
_OTHER_DECODER_BYTES = 12  # WebP: two canvases and a copy of the frame; AVIF and PNM need less
_PROGRESSIVE_BYTES = 8  # JPEG: a 16-bit coefficient for each of up to four components
_SQUARISH = 1.5

# Pillow asks for the memory of an image in blocks, of 16 MiB unless told otherwise. The C library keeps those when they
# are freed, for each thread apart; above 32 MiB it gives them back at once.
Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]

# Of the longer to the shorter side. Most models scale the shorter side to a fixed length: a line of one pixel would
# become gigabytes.
MAX_ASPECT_RATIO = 500


class ImageFile:
    """An image file of which only the header is read; a context manager, which does not close the stream.

    Attributes:
        size: (width, height) in pixels that `decode` decodes, before the EXIF orientation: as stored, or reduced.
        decoding_bytes: approximately the most memory that `decode` takes at a time.
    """

    def __init__(self, stream: BinaryIO, name: str, *, max_pixels: int) -> None:
        """Read the header.

        Args:
            stream: The file's content, from its start wherever it stands; decoding reads on.
            name: Which file it is, for messages.
            max_pixels: Width x height.

        Raises:
            UnreadableImageError: for a file that is empty, damaged, too large, too narrow or no image of a format of
                `_FORMATS`.
            UserError: where the stream cannot be read.
        """
        _raise_pillow_limit(max_pixels)
        self._name, self._max_pixels = name, max_pixels
        with one_reason(name, max_pixels, _FORMATS), ExitStack() as stack:
            stream.seek(0)
            if not stream.read(1):
                raise UnreadableImageError("the file is empty")
            self._image = stack.enter_context(Image.open(stream, formats=_FORMATS))
            self.size = self._whole = self._image.size
            self._scale = 1
            _check_size(*self.size, max_pixels)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def decoding_bytes(self) -> int:
        """See the class."""
        working = _DECODER_BYTES.get(str(self._image.format), _OTHER_DECODER_BYTES)
        whole = 0
        if self._image.info.get("progressive"):  # all coefficients, whatever scale the pixels have
            working, whole = 0, self._whole[0] * self._whole[1] * _PROGRESSIVE_BYTES
        if self._scale > 1 or max(self.size) > _SQUARISH * min(self.size):
            working += 4  # once turned upright it may need the whole in RGB, see `DecodedImage.resize`
        return self.size[0] * self.size[1] * (_PIXEL_BYTES.get(self._image.mode, 4) + working) + whole

    def reduce(self, enough: Callable[[tuple[int, int]], tuple[int, int]]) -> None:
        """Have a JPEG decoded at 1/8, 1/4 or 1/2 of its size: the smallest that is enough; if none is, in full.

        libjpeg leaves out the high frequencies of each block, which saves most of the work. Other formats stay as they
        are. To be called once, before `decode`.

        Args:
            enough: of the (width, height) of the upright image, the least (width, height) that is enough.

        Raises:
            UnreadableImageError: as the constructor.
        """
        image = self._image
        if not isinstance(image, JpegImagePlugin.JpegImageFile):
            return
        is_turned = orientation_of(image) in ROWS_ARE_COLUMNS
        width, height = enough(self.size[::-1] if is_turned else self.size)
        with one_reason(self._name, self._max_pixels, _FORMATS):
            image.draft(None, (height, width) if is_turned else (width, height))
        self.size, self._scale = image.size, image.decoderconfig[0]

    def decode(self) -> "DecodedImage":
        """The first frame.

        Raises:
            UnreadableImageError: as the constructor.
            UserError: as the constructor.
        """
        return decoded(self._image, self._name, max_pixels=self._max_pixels, whole=self._whole, scale=self._scale)


class DecodedImage:
    """A decoded image, read as upright 8-bit RGB, with the methods of a Pillow image that image processors call.

    Transparency is composed on white. Grey and colours of more than 8 bits are scaled to 8, and so are 32-bit integers
    within 0..65535 and floats within 0..1. Embedded colour profiles are not applied. Every method may raise
    `UnreadableImageError`.

    One that was reduced has fewer pixels than its size says, and stands for the whole of it: `resize` gives about what
    it gives of the whole, in the same place; `bands` and `convert` give the pixels that there are.

    Attributes:
        size: (width, height) of the whole.
        decoded_size: (width, height) in pixels that there are.
    """

    mode = "RGB"

    def __init__(
        self, image: Image.Image, orientation: int, name: str, max_pixels: int, whole: tuple[int, int], scale: int
    ) -> None:
        """For `ImageFile.decode`."""
        self._image = image
        self._orientation = orientation
        self._name, self._max_pixels = name, max_pixels
        is_turned = orientation in ROWS_ARE_COLUMNS
        self.size, self.decoded_size = (size[::-1] if is_turned else size for size in (whole, image.size))
        self._scale = scale

    def bands(self) -> Iterator[Image.Image]:
        """Whole rows, from top to bottom, a few at a time."""
        width, height = self.decoded_size
        n_rows = max(1, _BAND_PIXELS // width)
        for top in range(0, height, n_rows):
            with one_reason(self._name, self._max_pixels, _FORMATS):
                band = self._band(top, min(height, top + n_rows))
            yield band

    def _band(self, top: int, end: int) -> Image.Image:
        width, height = self.decoded_size
        if self._orientation in FROM_THE_END:
            top, end = height - end, height - top
        box = (top, 0, end, width) if self._orientation in ROWS_ARE_COLUMNS else (0, top, width, end)
        rgb = as_rgb(self._image.crop(box))
        method = UPRIGHT.get(self._orientation)
        return rgb if method is None else rgb.transpose(method)

    def convert(self, mode: str) -> Image.Image:
        """The whole image as a Pillow image."""
        whole = self._image.copy() if self._is_upright_rgb else self._joined(self.decoded_size[0], self.bands())
        return whole if mode == whole.mode else whole.convert(mode)

    def resize(self, size: tuple[int, int], resample: int) -> Image.Image:
        """The bits of `convert("RGB").resize(size, resample)`, usually without the whole image in RGB.

        Pillow resizes all rows, each by itself, and then all columns of the result. This method does the same, band by
        band. Pillow 13 resizes the columns of tall images first; these need the whole image.
        """
        filter_ = Image.Resampling(resample)
        if self._scale > 1:
            whole = self._image if self._is_upright_rgb else self.convert("RGB")
            return whole.resize(size, filter_, self._box)
        if self._is_upright_rgb:
            return self._image.resize(size, filter_)
        width, height = self.size
        columns_first = 0 < height - size[1] > 2 * (width - size[0])
        if columns_first or width * height <= _BAND_PIXELS:
            return self.convert("RGB").resize(size, filter_)
        narrow = self._joined(size[0], (band.resize((size[0], band.height), filter_) for band in self.bands()))
        return narrow.resize(size, filter_)

    @property
    def _box(self) -> tuple[float, float, float, float]:
        """What the whole takes up of the pixels: of the last row and column, as stored, often a part."""
        width, height = (side / self._scale for side in self.size)
        left = self.decoded_size[0] - width if self._orientation in FROM_THE_RIGHT else 0.0
        top = self.decoded_size[1] - height if self._orientation in FROM_THE_END else 0.0
        return left, top, left + width, top + height

    @property
    def _is_upright_rgb(self) -> bool:
        image = self._image
        return image.mode == "RGB" and self._orientation not in UPRIGHT and not image.has_transparency_data

    def _joined(self, width: int, bands: Iterator[Image.Image]) -> Image.Image:
        joined = Image.new("RGB", (width, self.decoded_size[1]))
        top = 0
        for band in bands:
            joined.paste(band, (0, top))
            top += band.height
        return joined


def decoded(
    image: Image.Image, name: str, *, max_pixels: int, whole: tuple[int, int] | None = None, scale: int = 1
) -> DecodedImage:
    """A Pillow image, of a file or of any other origin, read as `DecodedImage` describes.

    Args:
        image: the image.
        name: which it is, for messages.
        max_pixels: width x height.
        whole: (width, height) of what it stands for; None: itself.
        scale: pixels of the whole to one of the image, on a side.

    Raises:
        UnreadableImageError: as `ImageFile`.
        UserError: as `ImageFile`.
    """
    with one_reason(name, max_pixels, _FORMATS):
        _check_size(*image.size, max_pixels)
        image.load()
        check_range(image)
        return DecodedImage(image, orientation_of(image), name, max_pixels, whole or image.size, scale)


def open_image(path: Path, *, max_pixels: int) -> Image.Image:
    """An image file, decoded as `DecodedImage` describes.

    Raises:
        UnreadableImageError: as `ImageFile`.
        UserError: as `ImageFile`.
    """
    with (
        one_reason(str(path), max_pixels, _FORMATS),
        path.open("rb") as stream,
        ImageFile(stream, str(path), max_pixels=max_pixels) as file,
    ):
        return file.decode().convert("RGB")


def _raise_pillow_limit(max_pixels: int) -> None:
    """Raise Pillow's own global limit, so that it refuses nothing that `max_pixels` allows."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UnreadableImageError(f"{width} x {height} pixels, more than the limit of {max_pixels} pixels")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise UnreadableImageError(f"{width} x {height} pixels, one side more than {MAX_ASPECT_RATIO} times the other")
