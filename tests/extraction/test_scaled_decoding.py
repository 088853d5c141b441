"""`decode: scaled`: JPEGs far larger than the model's input are decoded smaller, and its pixels hardly differ."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.extraction.conftest import listing_of
from tests.extraction.test_prepare import Recording

from hsae.datasets import ImageFile, source_at
from hsae.demo import images_folder
from hsae.errors import UserError
from hsae.extraction.batches import iterate_batches
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.shards import extract_shard
from hsae.extraction.views import augmented_view

SIZE = (2000, 1500)
# Of the pixel values that the model gets, whose standard deviation is about 1.
MOST_MEAN_DIFFERENCE = 0.01
_N_PHOTOGRAPHS = 6


def photograph(number: int) -> Image.Image:
    """Bundled drawings, enlarged; the odd ones are sharp mosaics of twelve of them."""
    sources = sorted(images_folder().glob("*/*.webp"))[number::97]
    if number % 2 == 0:
        return Image.open(sources[0]).convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
    mosaic = Image.new("RGB", SIZE)
    for place, source in enumerate(sources[:12]):
        tile = Image.open(source).convert("RGB").resize((500, 500), Image.Resampling.BICUBIC)
        mosaic.paste(tile, (place % 4 * 500, place // 4 * 500))
    return mosaic


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs as cameras write them, one of them on its side, and the first once more as a PNG."""
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(_N_PHOTOGRAPHS):
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 3 else 1
        photograph(number).save(folder / f"{number}.jpg", quality=85, exif=exif)
    photograph(0).save(folder / "6.png", compress_level=1)
    return folder


@pytest.fixture(scope="module")
def listed(folder):
    return listing_of(folder, sorted(path.name for path in folder.iterdir()))


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """By file the size at which it was last decoded."""
    decode, lock, found = ImageFile.decode, threading.Lock(), {}

    def decoded(file: ImageFile):
        image = decode(file)
        with lock:
            found[Path(file._name).name] = image.decoded_size
        return image

    monkeypatch.setattr(ImageFile, "decode", decoded)
    return found


def pixels(backbone, folder, listed, *, budget=None, **changes) -> list[torch.Tensor]:
    """The pixel values of all images, by view."""
    extraction = ExtractionConfig(batch_size=16, max_image_pixels=10**7, **changes)
    (batch,) = iterate_batches(backbone, source_at(folder), listed, extraction, budget=budget)
    assert not batch.skipped
    return list(batch.views)


def test_large_jpegs_are_decoded_small_and_hardly_differ(backbone, folder, listed, sizes):
    exact = pixels(backbone, folder, listed)[0]
    assert set(sizes.values()) == {SIZE, SIZE[::-1]}
    n_exact = sum(width * height for name, (width, height) in sizes.items() if name.endswith("jpg"))
    scaled = pixels(backbone, folder, listed, decode="scaled")[0]
    # The model's processor makes the shorter side 64 pixels long, and 1500 / 8 is more than twice that.
    assert sizes == {f"{number}.jpg": (250, 188) for number in range(6)} | {"3.jpg": (188, 250), "6.png": SIZE}
    n_scaled = sum(width * height for name, (width, height) in sizes.items() if name.endswith("jpg"))
    assert n_scaled < n_exact / 60
    assert torch.equal(scaled[6], exact[6]), "a PNG keeps its bits"
    differences = (scaled - exact).abs().flatten(1).mean(1)[:_N_PHOTOGRAPHS]
    assert (differences > 0).all()
    assert (differences < MOST_MEAN_DIFFERENCE).all(), differences
    assert exact.std() > 0.5


def test_augmented_views_are_cut_from_the_smaller_image(backbone, folder, listed):
    views = pixels(backbone, folder, listed[:1], n_views=3, seed=5, decode="scaled")
    with (folder / "0.jpg").open("rb") as stream, ImageFile(stream, "0.jpg", max_pixels=10**7) as file:
        file.reduce(backbone.preprocessing.enough)
        smaller = file.decode().convert("RGB")
    assert smaller.size == (250, 188)
    for view in (1, 2):
        expected = augmented_view(smaller, seed=5, index=0, view=view)
        assert torch.equal(views[view], backbone.pixel_values([expected]))


def test_small_images_keep_their_bits(backbone, images, tmp_path):
    for number, size in enumerate([(250, 200), (64, 64), (20, 31), (1, 1), (255, 3000)]):
        with Image.open(images / "0.webp") as source:
            source.convert("RGB").resize(size).save(tmp_path / f"{number}.jpg")
    listed = listing_of(tmp_path, [f"{number}.jpg" for number in range(5)])
    exact = pixels(backbone, tmp_path, listed)[0]
    assert torch.equal(pixels(backbone, tmp_path, listed, decode="scaled")[0], exact)


def test_memory_is_lent_for_what_is_decoded(backbone, folder, listed):
    asked = {}
    for decode in ("exact", "scaled"):
        budget = Recording(1 << 30)
        pixels(backbone, folder, listed[:1], budget=budget, decode=decode)
        asked[decode] = budget.asked
    assert asked["exact"][0] > SIZE[0] * SIZE[1] * 4
    assert asked["scaled"][0] < SIZE[0] * SIZE[1]


def test_the_activations_hardly_differ(backbone, folder, listed):
    found = []
    for decode in ("exact", "scaled"):
        extraction = ExtractionConfig(max_image_pixels=10**7, decode=decode)
        found.append(extract_shard(backbone, source_at(folder), listed, extraction, on_batch=lambda n_done: None))
    for layer in backbone.layers:
        exact, scaled = (result.activations[layer] for result in found)
        assert not torch.equal(exact, scaled)
        assert torch.equal(exact[6], scaled[6])
        assert torch.cosine_similarity(exact, scaled).min() > 0.999


def test_a_model_that_does_not_resize_is_refused(backbone, folder, listed, monkeypatch):
    monkeypatch.setitem(backbone.preprocessing.description, "do_resize", False)
    with pytest.raises(UserError, match="its image processor does not resize images.*leave decode at exact"):
        pixels(backbone, folder, listed, decode="scaled")
    pixels(backbone, folder, listed[:1])


def test_the_scale_is_taken_from_what_is_enough(backbone, folder, listed, sizes, monkeypatch):
    seen = []
    monkeypatch.setattr(backbone.preprocessing, "enough", lambda size: seen.append(size) or (500, 375))
    pixels(backbone, folder, [listed[0], listed[3]], decode="scaled")
    assert sorted(seen) == sorted([SIZE, SIZE[::-1]])
    assert np.prod(sizes["0.jpg"]) == 500 * 375
