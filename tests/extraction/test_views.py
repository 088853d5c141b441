"""Augmented views: the same pixels for the same (seed, image, view), and never a pixel from outside the image."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.examples import examples

from hsae.datasets import open_image
from hsae.demo import images_folder
from hsae.extraction.views import augmented_view

SIDES = st.one_of(st.integers(1, 4), st.integers(1, 90))
NUMBERS = st.integers(0, 2**40)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    path = sorted(images_folder().glob("*/*.webp"))[3]
    return open_image(path, max_pixels=10**6)


def test_a_view_is_a_function_of_seed_image_and_view_alone(picture):
    wanted = [(seed, index, view) for seed in (0, 7) for index in (0, 1, 900) for view in (1, 2)]
    before = picture.tobytes()
    first = {key: augmented_view(picture, seed=key[0], index=key[1], view=key[2]).tobytes() for key in wanted}
    random.seed(4)  # neither the global generators nor the order of the calls matter
    for seed, index, view in reversed(wanted):
        again = augmented_view(picture.copy(), seed=seed, index=index, view=view)
        assert again.tobytes() == first[seed, index, view]
    assert len(set(first.values())) == len(wanted)
    assert picture.tobytes() == before


@examples(200)
@given(width=SIDES, height=SIDES, seed=NUMBERS, index=st.integers(0, 2**31 - 1), view=st.integers(1, 63))
def test_a_view_lies_inside_its_image_and_keeps_two_fifths_of_it(width, height, seed, index, view):
    white = Image.new("RGB", (width, height), "white")
    result = augmented_view(white, seed=seed, index=index, view=view)
    assert result.mode == "RGB"
    assert 1 <= result.width <= width
    assert 1 <= result.height <= height
    assert (result.width + 0.5) * (result.height + 0.5) >= 0.4 * width * height  # sides are rounded
    # Pillow fills what a crop takes from outside with black; white stays one colour through every change of colour.
    assert all(low == high >= 0.8 * 255 for low, high in result.getextrema())  # type: ignore[misc]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (20_000, 3), (2, 8_000)])
def test_images_of_extreme_shape(size):
    for view in range(1, 30):
        result = augmented_view(Image.new("RGB", size, "white"), seed=1, index=5, view=view)
        assert 1 <= result.width <= size[0]
        assert 1 <= result.height <= size[1]
        assert result.getextrema()[0][0] >= 204  # type: ignore[index]


def test_half_of_the_views_are_mirrored():
    brighter_to_the_right = Image.linear_gradient("L").rotate(90).convert("RGB")
    mirrored = 0
    for view in range(1, 201):
        result = augmented_view(brighter_to_the_right, seed=0, index=0, view=view).convert("L")
        left, right = (result.getpixel((x, result.height // 2)) for x in (0, result.width - 1))
        assert left != right
        mirrored += left > right  # type: ignore[operator]
    assert 70 <= mirrored <= 130
