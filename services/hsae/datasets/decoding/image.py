"""Opens one image file of any allowed format as 8-bit RGB, or says in a few words why it cannot.

Large images are processed in bands of rows: apart from the decoded pixels, at most 4 bytes each, this needs little
memory.
"""

import struct
from collections.abc import Iterator
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
from PIL.ExifTags import Base as ExifTag

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

# EXIF 2.32, table 4.6.4: what undoes each orientation.
_UPRIGHT = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
_ROWS_ARE_COLUMNS = (5, 6, 7, 8)
_FROM_THE_END = (3, 4, 7, 8)

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
        size: (width, height) as stored, before the EXIF orientation.
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
            self.size = self._image.size
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
        if self._image.info.get("progressive"):
            working = _PROGRESSIVE_BYTES
        if max(self.size) > _SQUARISH * min(self.size):
            working += 4  # once turned upright it may need the whole in RGB, see `DecodedImage.resize`
        return self.size[0] * self.size[1] * (_PIXEL_BYTES.get(self._image.mode, 4) + working)

    def decode(self) -> "DecodedImage":
        """The first frame.

        Raises:
            UnreadableImageError: as the constructor.
            UserError: as the constructor.
        """
        return decoded(self._image, self._name, max_pixels=self._max_pixels)


class DecodedImage:
    """A decoded image, read as upright 8-bit RGB, with the methods of a Pillow image that image processors call.

    Transparency is composed on white. Grey and colours of more than 8 bits are scaled to 8, and so are 32-bit integers
    within 0..65535 and floats within 0..1. Embedded colour profiles are not applied. Every method may raise
    `UnreadableImageError`.

    Attributes:
        size: (width, height).
    """

    mode = "RGB"

    def __init__(self, image: Image.Image, orientation: int, name: str, max_pixels: int) -> None:
        """For `ImageFile.decode`."""
        self._image = image
        self._orientation = orientation
        self._name, self._max_pixels = name, max_pixels
        width, height = image.size
        self.size = (height, width) if orientation in _ROWS_ARE_COLUMNS else (width, height)

    def bands(self) -> Iterator[Image.Image]:
        """Whole rows, from top to bottom, a few at a time."""
        width, height = self.size
        n_rows = max(1, _BAND_PIXELS // width)
        for top in range(0, height, n_rows):
            with one_reason(self._name, self._max_pixels, _FORMATS):
                band = self._band(top, min(height, top + n_rows))
            yield band

    def _band(self, top: int, end: int) -> Image.Image:
        width, height = self.size
        if self._orientation in _FROM_THE_END:
            top, end = height - end, height - top
        box = (top, 0, end, width) if self._orientation in _ROWS_ARE_COLUMNS else (0, top, width, end)
        rgb = as_rgb(self._image.crop(box))
        method = _UPRIGHT.get(self._orientation)
        return rgb if method is None else rgb.transpose(method)

    def convert(self, mode: str) -> Image.Image:
        """The whole image as a Pillow image."""
        whole = self._image.copy() if self._is_upright_rgb else self._joined(self.size[0], self.bands())
        return whole if mode == whole.mode else whole.convert(mode)

    def resize(self, size: tuple[int, int], resample: int) -> Image.Image:
        """The bits of `convert("RGB").resize(size, resample)`, usually without the whole image in RGB.

        Pillow resizes all rows, each by itself, and then all columns of the result. This method does the same, band by
        band. Pillow 13 resizes the columns of tall images first; these need the whole image.
        """
        filter_ = Image.Resampling(resample)
        if self._is_upright_rgb:
            return self._image.resize(size, filter_)
        width, height = self.size
        columns_first = 0 < height - size[1] > 2 * (width - size[0])
        if columns_first or width * height <= _BAND_PIXELS:
            return self.convert("RGB").resize(size, filter_)
        narrow = self._joined(size[0], (band.resize((size[0], band.height), filter_) for band in self.bands()))
        return narrow.resize(size, filter_)

    @property
    def _is_upright_rgb(self) -> bool:
        image = self._image
        return image.mode == "RGB" and self._orientation not in _UPRIGHT and not image.has_transparency_data

    def _joined(self, width: int, bands: Iterator[Image.Image]) -> Image.Image:
        joined = Image.new("RGB", (width, self.size[1]))
        top = 0
        for band in bands:
            joined.paste(band, (0, top))
            top += band.height
        return joined


def decoded(image: Image.Image, name: str, *, max_pixels: int) -> DecodedImage:
    """A Pillow image, of a file or of any other origin, read as `DecodedImage` describes.

    Raises:
        UnreadableImageError: as `ImageFile`.
        UserError: as `ImageFile`.
    """
    with one_reason(name, max_pixels, _FORMATS):
        _check_size(*image.size, max_pixels)
        image.load()
        check_range(image)
        return DecodedImage(image, _orientation(image), name, max_pixels)


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


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) where there is none or the EXIF block is damaged.

    Viewers show an image with sound pixels and a damaged EXIF block, so it is used here, too.
    """
    try:
        orientation = image.getexif().get(ExifTag.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, LookupError, OSError, OverflowError, struct.error):
        return 1
    return orientation if isinstance(orientation, int) else 1
