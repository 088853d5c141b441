"""Files through `open_image` that are damaged, no images, too large or cannot be read."""

import contextlib
import os
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from PIL import Image
from tests.datasets.decoding.pictures import MAX_PIXELS, NOISE, PICTURE, encoded, opened, picture, png
from tests.examples import examples

from hsae.datasets import UnreadableImageError, open_image
from hsae.errors import UserError


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_damaged_exif_does_not_spoil_the_image(tmp_path, exif):
    for kind in ("JPEG", "WEBP"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert opened(tmp_path, encoded(picture(), kind, exif=exif)).shape == PICTURE.shape


KINDS = {
    "png": encoded(Image.fromarray(NOISE), "PNG"),
    "png16": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "PNG"),
    "palette": encoded(Image.fromarray(NOISE[..., 0]).convert("P"), "PNG", transparency=3),
    "jpeg": encoded(Image.fromarray(NOISE), "JPEG"),
    "cmyk": encoded(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "webp": encoded(Image.fromarray(NOISE).convert("RGBA"), "WEBP"),
    "bmp": encoded(Image.fromarray(NOISE), "BMP"),
    "gif": encoded(Image.fromarray(NOISE), "GIF"),
    "tiff": encoded(Image.fromarray(NOISE), "TIFF"),
    "ppm": encoded(Image.fromarray(NOISE), "PPM"),
    "pgm16": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "PPM"),
    "ppm12": b"P6 30 40 4095\n" + (NOISE.astype(">u2") * 16).tobytes(),
    "ppm-text": b"P3 30 40 255\n" + b" ".join(b"%d" % value for value in NOISE.ravel()),
    "avif": encoded(Image.fromarray(NOISE), "AVIF", quality=80),
    "tiff-lzw": encoded(Image.fromarray(NOISE), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files(tmp_path, kind, share):
    data = KINDS[kind]
    with pytest.raises(UnreadableImageError) as caught:
        opened(tmp_path, data[: int(len(data) * share)])
    assert "\n" not in caught.value.reason
    assert "0x" not in caught.value.reason, "no memory address: the reason must be the same each time"


@given(st.data())
@examples(300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_give_an_image_or_the_one_error(tmp_path, data):
    content = bytearray(KINDS[data.draw(st.sampled_from(sorted(KINDS)))])
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, min(len(content), 400) - 1))
        content[position] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(UnreadableImageError):
            opened(tmp_path, bytes(content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\0", "not a readable"),
        (b"not an image at all", "not a readable"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable"),
        # kinds that are not asked for
        (encoded(Image.new("RGB", (4, 4)), "JPEG2000"), "not a readable"),
        (encoded(Image.new("RGB", (4, 4)), "ICO", sizes=[(4, 4)]), "not a readable"),
        (encoded(Image.new("RGB", (4, 4)), "TGA"), "not a readable"),
        (b"\x89PNG\r\n\x1a\n", "not a readable"),
    ],
)
def test_what_is_no_image(tmp_path, content, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        opened(tmp_path, content)


def test_huge_images_are_refused_by_their_header(tmp_path):
    """400 MB to 30 GB once decoded; the files hold a few bytes."""
    for width, height in ((10_000, 10_000), (16_000, 16_000), (100_000, 100_000)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(UnreadableImageError, match="more than the limit of 1000000 pixels"):
                opened(tmp_path, png(width, height, 8, 2, b""))
    with pytest.raises(UnreadableImageError, match="1000 x 1001 pixels, more than the limit of 1000000 pixels"):
        opened(tmp_path, png(1000, 1001, 1, 0, b""))
    assert opened(tmp_path, encoded(Image.new("1", (1000, 1000)), "PNG")).shape == (1000, 1000, 3)


def test_huge_pnm_and_avif_are_refused_by_their_header(tmp_path):
    with pytest.raises(UnreadableImageError, match="more than the limit of 1000000 pixels"):
        opened(tmp_path, b"P6 60000 60000 255\n")
    with pytest.raises(UnreadableImageError, match="40 x 48 pixels, more than the limit of 1000 pixels"):
        opened(tmp_path, encoded(Image.new("RGB", (40, 48)), "AVIF"), max_pixels=1000)


def test_a_compressed_text_bomb_is_refused(tmp_path):
    bomb = b"Comment\0\0" + zlib.compress(bytes(80_000_000))
    with pytest.raises(UnreadableImageError, match="damaged image"):
        opened(tmp_path, png(1, 1, 8, 0, b"\0\0", (b"zTXt", bomb)))


def test_the_limit_of_pillow_does_not_interfere(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert opened(tmp_path, encoded(picture(), "PNG")).shape == PICTURE.shape
        with pytest.raises(UnreadableImageError, match="more than the limit of 100 pixels"):
            opened(tmp_path, encoded(picture(), "PNG"), max_pixels=100)
    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS, "a larger limit of ours lifts Pillow's, a smaller one leaves it"


def test_files_that_cannot_be_read_are_not_skipped(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        open_image(tmp_path / "absent.png", max_pixels=MAX_PIXELS)
    with pytest.raises(UserError, match="cannot be read"):
        open_image(tmp_path, max_pixels=MAX_PIXELS)
    path = tmp_path / "forbidden.png"
    path.write_bytes(encoded(picture(), "PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root may read anything")
    with pytest.raises(UserError, match="cannot be read"):
        open_image(path, max_pixels=MAX_PIXELS)
