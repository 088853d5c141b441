"""Every kind of image file through `open_image`: colours, transparency, orientation and frames."""

import io
import struct

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image, ImageOps
from tests.datasets.decoding.pictures import COLOURS, NOISE, PICTURE, encoded, opened, picture, png

from hsae.datasets import UnreadableImageError


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("WEBP", {"quality": 95}),
        ("TIFF", {"compression": "jpeg", "quality": 95}),
        ("PPM", {}),
        ("AVIF", {"quality": 95}),
    ],
)
def test_formats(tmp_path, kind, options):
    found = opened(tmp_path, encoded(picture(), kind, **options)).astype(int)
    lossy = "quality" in options
    centres = (slice(8, None, 16), slice(8, None, 16))
    np.testing.assert_allclose(
        found[centres] if lossy else found, PICTURE[centres] if lossy else PICTURE, atol=8 * lossy
    )


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "LA")),
        *(("TIFF", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(("GIF", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "LA")),
        *(("PPM", mode) for mode in ("1", "L", "RGB")),  # .pbm, .pgm, .ppm
    ],
)
def test_colour_modes(tmp_path, kind, mode):
    source = picture().convert(mode)
    data = encoded(source, kind)
    expected = np.asarray(source.convert("RGB")).astype(int)
    tolerance = 2 if mode == "YCbCr" or kind == "GIF" else 0
    np.testing.assert_allclose(opened(tmp_path, data), expected, atol=tolerance)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("P1 # bits, 1 is black\n3 1\n1 0 1\n", [0, 255, 0]),
        ("P2 3 1 255\n0 128 255\n", [0, 128, 255]),
        ("P2 3 1 4\n0 1 4\n", [0, 64, 255]),  # the third number is white
        ("P3 1 1 15\n0 1 15\n", [[0, 17, 255]]),
    ],
)
def test_pnm_as_text(tmp_path, text, expected):
    found = opened(tmp_path, text.encode())
    np.testing.assert_array_equal(found[0] if text.startswith("P3") else found[0, :, 0], expected)


def test_pnm_of_more_bits(tmp_path):
    """Two bytes a value, the high one first; the number in the header is white."""
    grey16 = GREY16.astype(">u2").tobytes()
    np.testing.assert_array_equal(opened(tmp_path, b"P5 9 1 65535\n" + grey16)[..., 0], GREY8)
    twelve = np.array([0, 1000, 2048, 4095], ">u2")
    found = opened(tmp_path, b"P5 4 1 4095\n" + twelve.tobytes())
    np.testing.assert_array_equal(found[0, :, 0], np.rint(twelve * (255 / 4095)))
    colour = np.array([[0, 32768, 65535]], ">u2")
    np.testing.assert_array_equal(opened(tmp_path, b"P6 1 1 65535\n" + colour.tobytes()), [[[0, 128, 255]]])
    floats = np.array([0, 0.5, 1], "<f4")
    np.testing.assert_array_equal(opened(tmp_path, b"Pf\n3 1\n-1.0\n" + floats.tobytes())[0, :, 0], [0, 128, 255])
    with pytest.raises(UnreadableImageError, match="white is unknown"):
        opened(tmp_path, b"Pf\n3 1\n-1.0\n" + (floats * 9).tobytes())


def test_the_first_of_several_images_in_one_pnm(tmp_path):
    data = b"".join(encoded(Image.new("RGB", (2, 2), colour), "PPM") for colour in ("red", "lime"))
    assert opened(tmp_path, data)[0, 0].tolist() == [255, 0, 0]


def test_transparent_avif_is_laid_on_white(tmp_path):
    rgba = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    rgba.paste((0, 0, 255, 255), (0, 0, 8, 16))
    found = opened(tmp_path, encoded(rgba, "AVIF", quality=100, subsampling="4:4:4"))
    np.testing.assert_allclose(found[8, [2, 13]].astype(int), [[0, 0, 255], [255, 255, 255]], atol=4)


def test_an_avif_is_decoded_by_one_thread(tmp_path):
    """Readers run side by side. And the pixels do not depend on it."""
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1
    data = encoded(Image.fromarray(NOISE), "AVIF", quality=80)
    alone = opened(tmp_path, data)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 4
    try:
        np.testing.assert_array_equal(opened(tmp_path, data), alone)
    finally:
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def test_cmyk_jpeg_is_not_a_negative(tmp_path):
    """Adobe writes CMYK JPEGs inverted, and so does Pillow; red must come out red."""
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encoded(red, "JPEG", quality=95)
    assert b"Adobe" in data
    np.testing.assert_allclose(opened(tmp_path, data)[8, 8], [255, 0, 0], atol=4)
    ink = Image.new("CMYK", (16, 16), (0, 0, 0, 255))
    np.testing.assert_allclose(opened(tmp_path, encoded(ink, "JPEG", quality=95))[8, 8], [0, 0, 0], atol=4)


def test_alpha_is_laid_on_white(tmp_path):
    colours = [(255, 0, 0, 0), (0, 0, 0, 128), (10, 20, 30, 255)]
    rgba = Image.new("RGBA", (3, 1))
    for x, colour in enumerate(colours):
        rgba.putpixel((x, 0), colour)
    expected = [[[255, 255, 255], [127, 127, 127], [10, 20, 30]]]
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        np.testing.assert_array_equal(opened(tmp_path, encoded(rgba, kind, **options)), expected)
    grey = Image.new("LA", (2, 1))
    grey.putpixel((0, 0), (0, 0))
    grey.putpixel((1, 0), (100, 255))
    np.testing.assert_array_equal(opened(tmp_path, encoded(grey, "PNG")), [[[255] * 3, [100] * 3]])


def test_transparent_palettes_and_colour_keys(tmp_path):
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for x in range(3):
        palette.putpixel((x, 0), x)
    keyed = [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    np.testing.assert_array_equal(opened(tmp_path, encoded(palette, "PNG", transparency=1)), keyed)
    np.testing.assert_array_equal(opened(tmp_path, encoded(palette, "GIF", transparency=1)), keyed)
    half = opened(tmp_path, encoded(palette, "PNG", transparency=bytes([255, 128, 0])))
    np.testing.assert_array_equal(half, [[[255, 0, 0], [127, 255, 127], [255, 255, 255]]])

    rgb = palette.convert("RGB")
    np.testing.assert_array_equal(opened(tmp_path, encoded(rgb, "PNG", transparency=(0, 255, 0))), keyed)
    grey = Image.fromarray(np.array([[0, 7, 9]], np.uint8))
    np.testing.assert_array_equal(opened(tmp_path, encoded(grey, "PNG", transparency=7))[0, :, 0], [0, 255, 9])
    one_bit = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    np.testing.assert_array_equal(opened(tmp_path, encoded(one_bit, "PNG", transparency=0))[0, :, 0], [255, 255])


GREY16 = np.array([[0, 127, 128, 129, 257, 300, 32768, 65279, 65535]], np.uint16)
GREY8 = np.rint(GREY16 * (255 / 65535)).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(tmp_path, kind):
    found = opened(tmp_path, encoded(Image.fromarray(GREY16), kind))
    np.testing.assert_array_equal(found, GREY8[..., None].repeat(3, axis=2))


def test_16_bit_grey_of_other_layouts(tmp_path):
    big_endian = Image.frombytes("I;16B", (9, 1), GREY16.astype(">u2").tobytes())
    np.testing.assert_array_equal(opened(tmp_path, encoded(big_endian, "TIFF"))[..., 0], GREY8)
    wide = Image.fromarray(GREY16.astype(np.int32))
    assert wide.mode == "I"
    np.testing.assert_array_equal(opened(tmp_path, encoded(wide, "TIFF"))[..., 0], GREY8)
    keyed = png(9, 1, 16, 0, b"\0" + GREY16.astype(">u2").tobytes(), (b"tRNS", struct.pack(">H", 300)))
    expected = GREY8.copy()
    expected[0, 5] = 255
    np.testing.assert_array_equal(opened(tmp_path, keyed)[..., 0], expected)


def test_16_bit_colour_png(tmp_path):
    rgb = np.array([[0, 32768, 65535]], ">u2")
    np.testing.assert_array_equal(opened(tmp_path, png(1, 1, 16, 2, b"\0" + rgb.tobytes())), [[[0, 128, 255]]])
    rgba = np.array([[0, 0, 0, 0]], ">u2")
    np.testing.assert_array_equal(opened(tmp_path, png(1, 1, 16, 6, b"\0" + rgba.tobytes())), [[[255] * 3]])


def test_float_grey(tmp_path):
    grey = np.array([[0, 0.25, 0.5, 1]], np.float32)
    np.testing.assert_array_equal(opened(tmp_path, encoded(Image.fromarray(grey), "TIFF"))[0, :, 0], [0, 64, 128, 255])


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 70_000]], np.int32),
        np.array([[-1, 5]], np.int32),
        np.array([[0, 2]], np.float32),
        np.array([[np.nan, 0]], np.float32),
    ],
)
def test_grey_of_an_unknown_range_is_refused(tmp_path, values):
    with pytest.raises(UnreadableImageError, match="white is unknown"):
        opened(tmp_path, encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = (
        {"exif": exif}
        | ({"quality": 95} if kind in {"JPEG", "AVIF"} else {})
        | ({"lossless": True} if kind == "WEBP" else {})
    )
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(picture(), "PNG", exif=exif)))))
    data = encoded(picture(), kind, **options)  # last, as the writer of AVIF takes the orientation out of `exif`
    found = opened(tmp_path, data)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[8::16, 8::16].astype(int), expected[8::16, 8::16], atol=8)


def test_the_picture_looks_different_in_each_orientation():
    views = {np.rot90(m, k).tobytes() for m in (COLOURS, COLOURS[:, ::-1]) for k in range(4)}
    assert len(views) == 8


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_the_first_frame_of_several(tmp_path, kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(opened(tmp_path, data)[8, 8], [255, 0, 0], atol=6)


def test_a_gif_frame_smaller_than_its_canvas(tmp_path):
    """The rest of the canvas is transparent, hence white."""
    data = bytearray(encoded(Image.new("RGB", (2, 2), "red"), "GIF"))
    data[6:10] = struct.pack("<HH", 4, 4)
    found = opened(tmp_path, bytes(data))
    assert found.shape == (4, 4, 3)
    assert found[0, 0].tolist() == [255, 0, 0]
