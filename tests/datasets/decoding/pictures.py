"""Pictures to encode and decode, and image files made by hand."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from hsae.datasets import open_image

MAX_PIXELS = 1_000_000
# Blocks of 8 pixels survive JPEG; red, green / blue, white / black, grey: no two orientations look the same.
COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]], [[0, 0, 0], [128, 128, 128]]], np.uint8)
PICTURE = COLOURS.repeat(16, axis=0).repeat(16, axis=1)


def picture() -> Image.Image:
    return Image.fromarray(PICTURE)


def opened(tmp_path, data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    path = tmp_path / "image"  # the suffix says nothing here: the content decides
    path.write_bytes(data)
    image = open_image(path, max_pixels=max_pixels)
    assert image.mode == "RGB"
    assert type(image) is Image.Image
    return np.asarray(image)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width, height, depth, colour_type, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand, for what Pillow does not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


# Noise: nothing of it can be left out, and every part of a file holds pixels.
NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
