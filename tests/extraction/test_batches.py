"""Batches: in the listing's order, smaller where an image is unreadable, and only of the files that were registered."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.extraction.conftest import listing_of

from hsae.datasets import MemoryBudget, check, check_images, open_image, scan, source_at
from hsae.errors import UserError
from hsae.extraction import batches as batches_module
from hsae.extraction.batches import batches_of_ranges, iterate_batches
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.views import augmented_view
from hsae.taxonomy import load_taxonomy

MAX_PIXELS = 10**6


def batches(backbone, root, listed, **changes):
    extraction = ExtractionConfig(**{"batch_size": 4, "max_image_pixels": MAX_PIXELS, **changes})
    return list(iterate_batches(backbone, source_at(root), listed, extraction))


def test_batches_follow_the_listing(backbone, images, listed):
    listed = listed[5:] + listed[:5]  # whatever order the listing has
    found = batches(backbone, images, listed)
    assert [batch.images for batch in found] == [(5, 6, 7, 8), (0, 1, 2, 3), (4,)]
    assert all(batch.skipped == () for batch in found)
    for batch in found:
        opened = [open_image(images / f"{image}.webp", max_pixels=MAX_PIXELS) for image in batch.images]
        assert len(batch.views) == 1
        assert torch.equal(batch.views[0], backbone.pixel_values(opened))


def test_no_batch_is_of_two_ranges(backbone, images, listed):
    extraction = ExtractionConfig(batch_size=4, max_image_pixels=MAX_PIXELS)
    ranges = [listed[:5], listed[5:5], listed[5:]]
    found = list(batches_of_ranges(backbone, source_at(images), ranges, extraction))
    apart = [batch for part in ranges for batch in batches(backbone, images, part)]
    assert [batch.images for batch in found] == [batch.images for batch in apart] == [(0, 1, 2, 3), (4,), (5, 6, 7, 8)]
    assert all(torch.equal(one.views[0], other.views[0]) for one, other in zip(found, apart, strict=True))


def test_views_beyond_the_first_are_augmented(backbone, images, listed):
    (batch,) = batches(backbone, images, listed[:3], n_views=3, seed=11)
    opened = [open_image(images / f"{image}.webp", max_pixels=MAX_PIXELS) for image in range(3)]
    assert len(batch.views) == 3
    assert torch.equal(batch.views[0], backbone.pixel_values(opened))
    for view in (1, 2):
        augmented = [augmented_view(image, seed=11, index=i, view=view) for i, image in enumerate(opened)]
        assert torch.equal(batch.views[view], backbone.pixel_values(augmented))


def test_the_views_of_an_image_do_not_depend_on_its_batch(backbone, images, listed):
    whole = batches(backbone, images, listed, n_views=2, batch_size=9)[0].views[1]
    parts = torch.cat([batch.views[1] for batch in batches(backbone, images, listed, n_views=2, batch_size=2)])
    assert torch.equal(whole, parts)


def test_unreadable_images_leave_their_batch_smaller_and_move_no_other(backbone, images):
    (images / "1.webp").write_bytes(b"")
    (images / "4.webp").write_bytes((images / "4.webp").read_bytes()[:60])
    Image.new("RGB", (1100, 1000)).save(images / "5.webp")
    (images / "8.webp").write_text("no image at all")
    listed = listing_of(images, [f"{number}.webp" for number in range(9)])
    found = batches(backbone, images, listed, batch_size=3, n_views=2)
    assert [batch.images for batch in found] == [(0, 2), (3,), (6, 7)]
    assert [[(s.image, s.path) for s in batch.skipped] for batch in found] == [
        [(1, "1.webp")],
        [(4, "4.webp"), (5, "5.webp")],
        [(8, "8.webp")],
    ]
    reasons = [s.reason for batch in found for s in batch.skipped]
    assert all(reasons)
    assert "empty" in reasons[0]
    assert "1100 x 1000" in reasons[2]
    readable = [number for number in range(9) if number not in {1, 4, 5, 8}]
    opened = [open_image(images / f"{number}.webp", max_pixels=MAX_PIXELS) for number in readable]
    assert torch.equal(torch.cat([batch.views[0] for batch in found]), backbone.pixel_values(opened))


def test_a_batch_without_a_readable_image_has_no_views(backbone, images):
    for number in range(4):
        (images / f"{number}.webp").write_bytes(b"nothing")
    listed = listing_of(images, [f"{number}.webp" for number in range(6)])
    first, second = batches(backbone, images, listed, batch_size=4, n_views=3)
    assert (first.images, first.views, len(first.skipped)) == ((), (), 4)
    assert (second.images, len(second.views)) == ((4, 5), 3)


def test_no_image_gives_no_batch(backbone, images):
    assert batches(backbone, images, []) == []


def test_a_file_that_changed_after_registration_is_an_error(backbone, images, listed):
    Image.new("RGB", (96, 96), "red").save(images / "6.webp")  # a good image, but another one
    with pytest.raises(UserError, match=r"6\.webp has changed since .*`dataset add`"):
        batches(backbone, images, listed)


def test_a_file_that_was_damaged_after_registration_is_an_error_and_not_skipped(backbone, images, listed):
    (images / "0.webp").write_bytes(b"")
    with pytest.raises(UserError, match=r"0\.webp has changed"):
        batches(backbone, images, listed)


def test_a_file_that_is_gone_is_an_error(backbone, images, listed):
    (images / "8.webp").unlink()
    with pytest.raises(UserError, match=r"8\.webp cannot be read \(No such file or directory\)") as error:
        batches(backbone, images, listed)
    assert "\n" not in str(error.value)


def test_batches_before_the_error_are_delivered_and_stopping_early_is_fine(backbone, images, listed):
    (images / "8.webp").unlink()
    extraction = ExtractionConfig(batch_size=1, max_image_pixels=MAX_PIXELS)
    stream = iterate_batches(backbone, source_at(images), listed, extraction)
    assert [next(stream).images for _ in range(8)] == [(image,) for image in range(8)]
    stream.close()  # type: ignore[attr-defined]


def test_as_much_is_decoded_at_once_as_the_documentation_says(backbone, images, listed, monkeypatch, tmp_path):
    made = []

    class Noted(MemoryBudget):
        """Remembers how large it was made."""

        def __init__(self, n_bytes: int) -> None:
            super().__init__(n_bytes)
            made.append(n_bytes)

    monkeypatch.setattr(batches_module, "MemoryBudget", Noted)
    monkeypatch.setattr(check, "MemoryBudget", Noted)
    batches(backbone, images, listed)
    (tmp_path / "tree.csv").write_text("child,parent\na,thing\nb,thing\n")
    (tmp_path / "images.csv").write_text(f"path,label\n{images}/0.webp,a\n{images}/1.webp,b\n")
    check_images(scan(tmp_path / "images.csv", load_taxonomy(tmp_path / "tree.csv")), max_pixels=MAX_PIXELS)
    assert made == [512 << 20] * 2
    assert batches_module._BYTES_AHEAD == 256 << 20
    page = " ".join((Path(__file__).parents[2] / "docs" / "operations.md").read_text().split())
    assert "Decoded images take 512 MiB at most, all threads together" in page
    assert "of up to four batches and at most 256 MiB" in page


@pytest.mark.parametrize(("n_fitting", "n_ahead"), [(10**6, 32), (20, 20), (1, 12)])
def test_images_are_prepared_ahead_within_a_bound_of_bytes(backbone, images, listed, monkeypatch, n_fitting, n_ahead):
    """Of four batches, or of so many images as fit; of one batch and what the readers hold if that is more."""
    height, width = backbone.preprocessing.image_size
    monkeypatch.setattr(batches_module, "_BYTES_AHEAD", n_fitting * 3 * height * width * 4)
    monkeypatch.setattr(batches_module, "_READERS", 4)
    submitted, submit = [], ThreadPoolExecutor.submit

    def noted(pool, prepare, image):
        submitted.append(image)
        return submit(pool, prepare, image)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", noted)
    extraction = ExtractionConfig(batch_size=8, max_image_pixels=MAX_PIXELS)
    stream = batches_of_ranges(backbone, source_at(images), [listed * 10], extraction)
    assert len(next(stream).images) == 8
    assert len(submitted) == n_ahead
    stream.close()
