"""Images read in bands: the same bits as the whole, and what is too long for it is refused by its header."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hsae.datasets import MAX_ASPECT_RATIO, ImageFile, UnreadableImageError, check_images, open_image, scan
from hsae.datasets.decoding import image as image_module

MAX_PIXELS = 10**6
RNG = np.random.default_rng(3)


def noise(mode: str, size: tuple[int, int]) -> Image.Image:
    width, height = size
    if mode == "I;16":
        return Image.fromarray(RNG.integers(0, 65536, (height, width), dtype=np.uint16))
    if mode == "I":
        return Image.fromarray(RNG.integers(0, 65536, (height, width), dtype=np.int32))
    if mode == "F":
        return Image.fromarray(RNG.random((height, width), dtype=np.float32))
    rgba = Image.fromarray(RNG.integers(0, 256, (height, width, 4), dtype=np.uint8), "RGBA")
    return rgba if mode == "RGBA" else rgba.convert("RGB").convert(mode)


SORTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "jpeg": ("RGB", "JPEG", {}),
    "progressive": ("RGB", "JPEG", {"progressive": True}),
    "cmyk": ("CMYK", "JPEG", {}),
    "grey jpeg": ("L", "JPEG", {}),
    "png": ("RGB", "PNG", {}),
    "colour key": ("RGB", "PNG", {"transparency": (1, 2, 3)}),
    "1-bit": ("1", "PNG", {}),
    "palette": ("P", "PNG", {"transparency": bytes(range(256))}),
    "alpha": ("RGBA", "PNG", {}),
    "grey and alpha": ("LA", "PNG", {}),
    "16-bit": ("I;16", "PNG", {}),
    "32-bit": ("I", "TIFF", {}),
    "float": ("F", "TIFF", {}),
    "tiff": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "webp": ("RGBA", "WEBP", {"lossless": True}),
    "gif": ("P", "GIF", {"transparency": 5}),
    "bmp": ("RGB", "BMP", {}),
}


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("sort", SORTS)
def test_bands_join_to_the_whole(tmp_path, monkeypatch, sort, orientation):
    mode, kind, options = SORTS[sort]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = options if kind in ("BMP", "GIF") else {**options, "exif": exif}
    path = tmp_path / "image"
    # Wide, squarish and so tall that Pillow 13 resizes its columns first, before and after it is turned.
    for size in ((41, 30), (90, 11), (11, 90)):
        noise(mode, size).save(path, kind, **options)
        monkeypatch.setattr(image_module, "_BAND_PIXELS", 10**9)
        whole = open_image(path, max_pixels=MAX_PIXELS)
        monkeypatch.setattr(image_module, "_BAND_PIXELS", 130)  # two or three rows
        with path.open("rb") as stream, ImageFile(stream, path.name, max_pixels=MAX_PIXELS) as file:
            decoded = file.decode()
        assert decoded.size == whole.size
        bands = list(decoded.bands())
        assert len(bands) > 3
        assert {type(band) for band in bands} == {Image.Image}
        np.testing.assert_array_equal(np.concatenate([np.asarray(band) for band in bands]), np.asarray(whole))
        np.testing.assert_array_equal(np.asarray(decoded.convert("RGB")), np.asarray(whole))
        for target in ((16, 16), (60, 20), (20, 60), (100, 100), whole.size):
            for resample in Image.Resampling.BICUBIC, Image.Resampling.BILINEAR:
                expected = np.asarray(whole.resize(target, resample))
                np.testing.assert_array_equal(np.asarray(decoded.resize(target, resample)), expected)


@pytest.mark.parametrize("resample", [0, 1, 2, 3, 4, 5])
def test_every_filter_gives_the_bits_of_a_resize_of_the_whole(tmp_path, monkeypatch, resample):
    monkeypatch.setattr(image_module, "_BAND_PIXELS", 300)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "image"
    for size in [(int(width), int(height)) for width, height in RNG.integers(20, 160, (12, 2))]:
        noise("RGB", size).save(path, "PNG", exif=exif)
        whole = open_image(path, max_pixels=MAX_PIXELS)
        with path.open("rb") as stream, ImageFile(stream, path.name, max_pixels=MAX_PIXELS) as file:
            decoded = file.decode()
        for target in ((32, 32), (43, 32), (32, 57), (200, 180)):
            expected = np.asarray(whole.resize(target, resample))
            np.testing.assert_array_equal(np.asarray(decoded.resize(target, resample)), expected, f"{size} {target}")


def test_a_float_out_of_range_in_a_later_band_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(image_module, "_BAND_PIXELS", 10)
    values = np.zeros((9, 10), np.float32)
    values[8, 3] = np.nan
    path = tmp_path / "image"
    Image.fromarray(values).save(path, "TIFF")
    with pytest.raises(UnreadableImageError, match="white is unknown"):
        open_image(path, max_pixels=MAX_PIXELS)


def test_lines_are_refused_by_their_header(tmp_path):
    """Scaled so that its shorter side fits a model, a line of 143 bytes becomes gigabytes."""
    path = tmp_path / "line.png"
    Image.new("1", (20_000, 1)).save(path)
    with pytest.raises(UnreadableImageError, match="^20000 x 1 pixels, one side more than 500 times the other$"):
        open_image(path, max_pixels=MAX_PIXELS)
    for longer, usable in ((3 * MAX_ASPECT_RATIO, True), (3 * MAX_ASPECT_RATIO + 1, False)):
        for size in ((longer, 3), (3, longer)):
            Image.new("L", size).save(path)
            if usable:
                assert open_image(path, max_pixels=MAX_PIXELS).size == size
            else:
                with pytest.raises(UnreadableImageError, match="one side more than 500 times"):
                    open_image(path, max_pixels=MAX_PIXELS)


def test_a_check_names_lines_and_lends_memory(tmp_path, wordnet, monkeypatch):
    for label in ("dog.n.01", "cat.n.01"):
        (tmp_path / label).mkdir()
        for number in range(3):
            noise("RGB", (30, 20)).save(tmp_path / label / f"{number}.png")
    Image.new("1", (20_000, 1)).save(tmp_path / "cat.n.01" / "line.png")
    lent = []
    budget = image_module.ImageFile.decoding_bytes.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(
        image_module.ImageFile, "decoding_bytes", property(lambda file: lent.append(budget(file)) or lent[-1])
    )
    (skipped,) = check_images(scan(tmp_path, wordnet), max_pixels=MAX_PIXELS)
    assert (skipped.path, skipped.reason) == (
        "cat.n.01/line.png",
        "20000 x 1 pixels, one side more than 500 times the other",
    )
    assert lent == [30 * 20 * 4] * 6


def test_what_decoding_takes_is_told_by_the_header(tmp_path):
    path = tmp_path / "image"
    found = {}
    for sort, (mode, kind, options) in SORTS.items():
        stream = io.BytesIO()
        noise(mode, (12, 10)).save(stream, kind, **options)
        path.write_bytes(stream.getvalue())
        with path.open("rb") as stream, ImageFile(stream, path.name, max_pixels=MAX_PIXELS) as file:
            found[sort] = file.decoding_bytes / 120
    assert found == {
        "jpeg": 4, "progressive": 12, "cmyk": 4, "grey jpeg": 1, "png": 4, "colour key": 4, "1-bit": 1, "palette": 1,
        "alpha": 4, "grey and alpha": 4, "16-bit": 2, "32-bit": 12, "float": 12, "tiff": 12, "webp": 16, "gif": 5,
        "bmp": 4,
    }  # fmt: skip
