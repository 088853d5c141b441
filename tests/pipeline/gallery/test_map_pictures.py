"""Maps over pictures of their images; what cannot be shown is left out, whatever keeps it away."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from hsae.errors import ServiceError, UserError
from hsae.pipeline.gallery.images import ImageUnavailableError
from hsae.pipeline.gallery.map_pictures import map_picture, map_pictures
from hsae.pipeline.gallery.thumbnails import Thumbnails
from hsae.store.keys import maps_key
from hsae.store.tensors import put_tensors

PREPROCESSING = {"image_size": [32, 32]}
KEY = "c" * 64


@pytest.fixture
def rows(service, tmp_path) -> list[dict]:
    """Maps of three images: one in a folder, one whose file is gone, one at a source that nobody knows."""
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "there.png")
    stored = put_tensors(service.store, maps_key(KEY), {"chefer": torch.rand(3, 4, 4).half()}, {})
    shared = {
        "analysis_id": 1, "latent": 2, "method": "chefer", "maps_key": KEY, "maps_sha256": stored.sha256,
        "preprocessing": PREPROCESSING,
    }  # fmt: skip
    places = [(str(folder), "there.png"), (str(folder), "gone.png"), ("elsewhere://server/images", "a.png")]
    return [shared | {"root": root, "path": path, "map_index": place} for place, (root, path) in enumerate(places)]


def test_an_image_whose_source_is_away_is_left_out(service, rows):
    with pytest.raises(UserError) as away:
        Thumbnails(None).get(rows[2]["root"], rows[2]["path"])
    assert not isinstance(away.value, ImageUnavailableError), "the source, not the image"
    found = map_pictures(service.store, Thumbnails(None), rows)
    assert list(found) == [(1, 2, "there.png")]


def test_a_server_of_images_that_does_not_answer_costs_its_images_alone(service, rows, monkeypatch):
    thumbnails = Thumbnails(None)
    get = thumbnails.get

    def answered(root, path, **options):
        if path == "gone.png":
            raise ServiceError("the server is away")
        return get(root, path, **options)

    monkeypatch.setattr(thumbnails, "get", answered)
    assert list(map_pictures(service.store, thumbnails, rows[:2])) == [(1, 2, "there.png")]


def test_the_picture_is_the_image_under_its_map():
    white = io.BytesIO()
    Image.new("RGB", (32, 32), "white").save(white, "WEBP", lossless=True)
    values = np.zeros((4, 4), np.float16)
    values[0, 0] = 1
    drawn = map_picture(white.getvalue(), values, PREPROCESSING)
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("L")).astype(float)
    assert pixels.shape == (32, 32)
    assert pixels[:8, :8].mean() > pixels[16:, 16:].mean() + 50, "bright where the map is 1"
