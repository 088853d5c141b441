"""Maps as pictures: over the part of the image that the preprocessing leaves."""

import numpy as np
import pytest
import transformers
from PIL import Image

from hsae.backbones.preprocessing import Preprocessing, processor_content
from hsae.relevancy.overlay import VisiblePart, overlay, sheet, visible_part

_CROP = {"crop_size": {"height": 32, "width": 32}}
PROCESSORS = {
    "cropped": ("BitImageProcessorPil", {"size": {"shortest_edge": 40}, **_CROP}),
    "as wide": ("BitImageProcessorPil", {"size": {"shortest_edge": 32}, **_CROP}),
    "squeezed and cropped": ("BitImageProcessorPil", {"size": {"height": 40, "width": 40}, **_CROP}),
    "squeezed": ("ViTImageProcessorPil", {"size": {"height": 32, "width": 32}}),
}


@pytest.mark.parametrize("size", [(120, 80), (80, 120), (90, 90)])
@pytest.mark.parametrize("name", PROCESSORS)
def test_the_visible_part_is_where_the_model_s_pixels_come_from(name, size, tmp_path):
    class_name, settings = PROCESSORS[name]
    getattr(transformers, class_name)(**settings).save_pretrained(tmp_path)
    preprocessing = Preprocessing(processor_content(tmp_path), "model", "BitImageProcessor")
    part = visible_part(preprocessing.description, size)
    width, height = size
    # Brightness grows from left to right, or from top to bottom: the model's first and last pixels say where it looks.
    for axis, n_pixels, low, high in ((1, width, part.left, part.right), (0, height, part.top, part.bottom)):
        ramp = np.linspace(0, 255, n_pixels)
        values = np.tile(ramp, (height, 1)) if axis == 1 else np.tile(ramp[:, None], (1, width))
        image = Image.fromarray(values.round().astype(np.uint8)).convert("RGB")
        seen = preprocessing([image])[0, 0].numpy()
        mean, std = preprocessing.description["image_mean"][0], preprocessing.description["image_std"][0]
        seen = (seen * std + mean) * 1.0  # shares of 255
        line = seen.mean(0) if axis == 1 else seen.mean(1)
        # The middle of a pixel lies half a pixel inside the part.
        half = (high - low) / 32 / 2
        assert line[0] == pytest.approx(low + half, abs=0.03)
        assert line[-1] == pytest.approx(high - half, abs=0.03)


def test_an_image_that_is_padded_is_seen_beyond_its_edge():
    described = {"image_size": [32, 32], "do_center_crop": True, "do_resize": False}
    assert visible_part(described, (16, 64)) == VisiblePart(-0.5, 0.25, 1.5, 0.75)


def test_the_map_lies_over_the_part_and_the_rest_stays_grey():
    image = Image.new("RGB", (40, 20), (200, 100, 0))
    values = np.zeros((2, 2), np.float16)
    values[0, 1] = 1
    drawn = np.asarray(overlay(image, values, VisiblePart(0.25, 0, 0.75, 1)))
    assert drawn.shape == (20, 40, 3)
    assert (drawn[:, :10] == drawn[:, :10, :1]).all()
    assert (drawn[:, 30:] == drawn[:, 30:, :1]).all()
    brightness = drawn[:, 10:30].astype(int).sum(2)
    row, col = np.unravel_index(brightness.argmax(), brightness.shape)
    assert row < 10
    assert col >= 10
    padded = overlay(image, values, VisiblePart(-0.5, -0.5, 1.5, 1.5))
    assert padded.size == (40, 20)


def test_a_sheet_has_a_square_for_every_picture():
    red = Image.new("RGB", (50, 25), (255, 0, 0))
    whole = sheet([[red, None], [red]], 20)
    assert whole.size == (44, 44)
    pixels = np.asarray(whole)
    assert (pixels[10, 10] == (255, 0, 0)).all()
    assert (pixels[10, 34] == (235, 235, 235)).all()
    assert (pixels[34, 34] == 255).all()
    assert sheet([], 20).size[1] == 20


def test_the_colour_map_is_perceptually_uniform():
    from matplotlib import colormaps

    from hsae.relevancy.overlay import COLOURS

    rgb = colormaps[COLOURS](np.linspace(0, 1, 64))[:, :3]
    brightness = rgb @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > 0).all()
