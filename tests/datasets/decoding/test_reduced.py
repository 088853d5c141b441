"""JPEGs at 1/2, 1/4 or 1/8 of their size: the smallest that is enough; everything else keeps its bits."""

import io

import numpy as np
import pytest
from PIL import Image

from hsae.datasets import ImageFile, UnreadableImageError

from .pictures import encoded

MAX_PIXELS = 10**7
RNG = np.random.default_rng(1)
# Soft, as photographs are, and no two orientations look the same.
SOFT = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((800, 600), Image.Resampling.BICUBIC)
TURNED = (5, 6, 7, 8)


def file_of(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageFile:
    return ImageFile(io.BytesIO(data), "image", max_pixels=max_pixels)


def reduced(data: bytes, least: tuple[int, int]) -> np.ndarray:
    """The pixels, of an image of which `least` is enough; (width, height) upright."""
    with file_of(data) as file:
        file.reduce(lambda size: least)
        decoded = file.decode()
    image = decoded.convert("RGB")
    assert image.size == decoded.decoded_size
    np.testing.assert_array_equal(np.concatenate([np.asarray(band) for band in decoded.bands()]), np.asarray(image))
    return np.asarray(image)


def exact(data: bytes) -> np.ndarray:
    with file_of(data) as file:
        return np.asarray(file.decode().convert("RGB"))


@pytest.mark.parametrize(
    ("least", "scale"),
    [
        ((801, 10), 1), ((800, 600), 1), ((401, 300), 1), ((400, 301), 1), ((400, 300), 2), ((201, 150), 2),
        ((200, 150), 4), ((10, 76), 4), ((100, 75), 8), ((1, 1), 8), ((9000, 9000), 1),
    ],
)  # fmt: skip
def test_the_smallest_scale_that_is_enough(least, scale):
    with file_of(encoded(SOFT, "JPEG")) as file:
        seen = []
        file.reduce(lambda size: seen.append(size) or least)
        assert seen == [(800, 600)]
        decoded = file.decode()
        assert file.size == decoded.decoded_size == (800 // scale, 600 // scale)
        assert decoded.size == (800, 600)


def test_a_size_that_is_no_multiple_is_rounded_up():
    picture = SOFT.resize((801, 607))
    assert reduced(encoded(picture, "JPEG"), (100, 75)).shape == (76, 101, 3)


def test_where_no_smaller_scale_is_enough_the_bits_stay():
    data = encoded(SOFT, "JPEG", quality=90)
    np.testing.assert_array_equal(reduced(data, (401, 301)), exact(data))
    tiny = encoded(SOFT.resize((9, 5)), "JPEG")
    np.testing.assert_array_equal(reduced(tiny, (128, 128)), exact(tiny))


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [("PNG", "RGB", {}), ("WEBP", "RGB", {"quality": 80}), ("TIFF", "RGB", {}), ("PNG", "RGBA", {}), ("GIF", "P", {}),
     ("BMP", "RGB", {}), ("PPM", "RGB", {})],
)  # fmt: skip
def test_other_formats_keep_their_bits(kind, mode, options):
    data = encoded(SOFT.convert(mode), kind, **options)
    np.testing.assert_array_equal(reduced(data, (1, 1)), exact(data))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_orientation_and_colour_is_the_same_picture(mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(SOFT.convert(mode), "JPEG", exif=exif, quality=95)
    seen = []
    with file_of(data) as file:
        file.reduce(lambda size: seen.append(size) or (size[0] // 4, 10))
        small = file.decode().convert("RGB")
    whole = Image.fromarray(exact(data))
    assert seen == [whole.size] == [(600, 800) if orientation in TURNED else (800, 600)]
    assert small.size == (whole.size[0] // 4, whole.size[1] // 4)
    expected = whole.resize(small.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(small, float) - np.asarray(expected, float)).mean() < 2


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_it_is_resized_to_the_same_place(orientation):
    """803 columns are 100 and 3/8 at 1/8; without care for that the picture would be stretched."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = Image.fromarray(RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    data = encoded(noise.resize((803, 601), Image.Resampling.BICUBIC), "JPEG", exif=exif, quality=95)
    with file_of(data) as file:
        file.reduce(lambda size: (75, 75))
        assert file.size == (101, 76)
        small = file.decode()
    whole = Image.fromarray(exact(data))
    assert small.size == whole.size
    target = (32, 43) if orientation in TURNED else (43, 32)
    found = np.asarray(small.resize(target, Image.Resampling.BICUBIC), float)
    expected = np.asarray(whole.resize(target, Image.Resampling.BICUBIC), float)
    stretched = np.asarray(small.convert("RGB").resize(target, Image.Resampling.BICUBIC), float)
    assert np.abs(found - expected).mean() < 0.5 * np.abs(stretched - expected).mean()


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 2}, {"optimize": True}])
def test_every_sort_of_jpeg(options):
    data = encoded(SOFT, "JPEG", quality=95, **options)
    expected = Image.fromarray(exact(data)).resize((100, 75), Image.Resampling.BOX)
    assert np.abs(reduced(data, (100, 75)) - np.asarray(expected, float)).mean() < 2


def test_the_first_of_several_pictures():
    other = Image.new("RGB", (800, 600), "red")
    data = encoded(SOFT, "MPO", save_all=True, append_images=[other], quality=95)
    with file_of(data) as file:
        assert file._image.format == "MPO"
    expected = Image.fromarray(exact(data)).resize((100, 75), Image.Resampling.BOX)
    assert np.abs(reduced(data, (100, 75)) - np.asarray(expected, float)).mean() < 2


def test_less_memory_is_asked_for_but_for_the_coefficients():
    for options, whole in (({}, 0), ({"progressive": True}, 800 * 600 * 8)):
        with file_of(encoded(SOFT, "JPEG", **options)) as file:
            assert file.decoding_bytes == 800 * 600 * 4 + whole
            file.reduce(lambda size: (100, 75))
            assert file.decoding_bytes == 100 * 75 * (4 + 4) + whole


def test_the_limit_is_that_of_the_file_and_damage_is_found():
    data = encoded(SOFT, "JPEG")
    with pytest.raises(UnreadableImageError, match="800 x 600 pixels, more than the limit"):
        file_of(data, 800 * 600 - 1)
    with file_of(data[: len(data) // 2]) as file:
        file.reduce(lambda size: (100, 75))
        with pytest.raises(UnreadableImageError, match="damaged image"):
            file.decode()
    # As narrow as is allowed, and not narrower at a smaller scale.
    with file_of(encoded(Image.new("RGB", (8500, 17)), "JPEG")) as file:
        file.reduce(lambda size: (1, 1))
        assert file.decode().decoded_size == (1063, 3)


def test_a_damaged_exif_block_is_upright():
    data = encoded(SOFT, "JPEG", exif=b"Exif\x00\x00nonsense")
    assert reduced(data, (100, 75)).shape == (75, 100, 3)
