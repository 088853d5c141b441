"""Images are prepared one by one, in little memory; whatever fails in one skips it by name, and no more is hidden."""

import re
import threading
from contextlib import contextmanager
from pathlib import Path

import PIL.Image
import pytest
import torch
from PIL import WebPImagePlugin
from tests.extraction.conftest import listing_of

from hsae.backbones.backbone import Backbone
from hsae.datasets import DecodedImage, ImageFile, MemoryBudget, source_at
from hsae.extraction import prepare as prepare_module
from hsae.extraction.batches import iterate_batches
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.listed import ListedImage
from hsae.extraction.shards import extract_shard

MAX_PIXELS = 10**7


def batches(backbone, root, listed, *, budget=None, **changes):
    extraction = ExtractionConfig(**{"batch_size": 4, "max_image_pixels": MAX_PIXELS, **changes})
    return list(iterate_batches(backbone, source_at(root), listed, extraction, budget=budget))


def skipped_of(found):
    return [(entry.path, entry.reason) for batch in found for entry in batch.skipped]


def images_of(found):
    return [image for batch in found for image in batch.images]


def test_a_line_is_skipped_by_name(backbone, images, tmp_path):
    """143 bytes that took 13 GB; its neighbours keep their values."""
    before = batches(backbone, images, listing_of(images, [f"{number}.webp" for number in (0, 1)]))
    PIL.Image.new("1", (20_000, 1)).save(images / "line.png")
    assert (images / "line.png").stat().st_size < 200
    found = batches(backbone, images, listing_of(images, ["0.webp", "line.png", "1.webp"]))
    assert images_of(found) == [0, 2]
    assert skipped_of(found) == [("line.png", "20000 x 1 pixels, one side more than 500 times the other")]
    assert torch.equal(found[0].views[0], before[0].views[0])


def failing(monkeypatch, number: int, error: BaseException, *, times: int = 10**9) -> list[int]:
    """From now on, preparing the listed image `number` raises; the list counts how often."""
    decode, calls = ImageFile.decode, []

    def fail(file: ImageFile) -> DecodedImage:
        if Path(file._name).stem == str(number):
            calls.append(1)
            if len(calls) <= times:
                raise error
        return decode(file)

    monkeypatch.setattr(ImageFile, "decode", fail)
    return calls


def test_an_image_without_memory_is_tried_once_more_alone(backbone, images, listed, monkeypatch):
    expected = batches(backbone, images, listed)
    for always in (False, True):
        with monkeypatch.context() as patch:
            calls = failing(patch, 5, MemoryError(), times=10 if always else 1)
            budget = Recording(10**6)
            found = batches(backbone, images, listed, budget=budget)
        assert len(calls) == 2
        assert budget.asked.count(10**6) == 1, "the second time it has all of the budget"
        if always:
            assert skipped_of(found) == [("5.webp", "not enough memory to prepare it")]
            assert images_of(found) == [0, 1, 2, 3, 4, 6, 7, 8]
        else:
            assert skipped_of(found) == []
            assert all(torch.equal(a.views[0], b.views[0]) for a, b in zip(found, expected, strict=True))


def test_lack_of_memory_inside_pillow_and_the_processor(backbone, images, listed, monkeypatch):
    load = WebPImagePlugin.WebPImageFile.load

    def no_memory(image):
        if getattr(image.fp, "name", "").endswith("2.webp"):
            raise MemoryError
        return load(image)

    with monkeypatch.context() as patch:
        patch.setattr(WebPImagePlugin.WebPImageFile, "load", no_memory)
        found = batches(backbone, images, listed)
    assert skipped_of(found) == [("2.webp", "not enough memory to decode it, or a damaged image")]

    def broken(**_):
        raise ValueError("channels are\nunusual")

    monkeypatch.setattr(backbone.preprocessing, "_processor", broken)
    monkeypatch.setattr(backbone.preprocessing, "_colours", None)  # which spares the processor
    found = batches(backbone, images, listed[:2])
    assert [reason for _, reason in skipped_of(found)] == ["the model's preprocessing failed: channels are unusual"] * 2


class Stop(BaseException):
    """Such as a request to stop."""


@pytest.mark.parametrize("error", [Stop("stop"), TypeError("a mistake of ours"), OSError(5, "Input/output error")])
def test_mistakes_and_stops_are_not_taken_for_bad_images(backbone, images, listed, monkeypatch, error):
    failing(monkeypatch, 4, error)
    with pytest.raises(type(error), match=re.escape(str(error))):
        batches(backbone, images, listed)


class Recording(MemoryBudget):
    """A budget that remembers what it was asked for, and how much was lent at most."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__(n_bytes)
        self.asked: list[int] = []
        self.most = 0

    @contextmanager
    def lent(self, n_bytes):
        self.asked.append(n_bytes)
        with super().lent(n_bytes):
            self.most = max(self.most, self.n_bytes - self._free)
            yield


@pytest.fixture
def photographs(tmp_path: Path) -> tuple[Path, list[ListedImage]]:
    """One photograph of 3 megapixels as a telephone writes it, on its side, listed 64 times."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    ramp = PIL.Image.linear_gradient("L").resize((2000, 1500))
    PIL.Image.merge("RGB", (ramp, ramp, ramp)).save(folder / "0.jpg", exif=exif, quality=60)
    (one,) = listing_of(folder, ["0.jpg"])
    return folder, [ListedImage(number, one.path, one.sha256) for number in range(64)]


def test_only_as_much_is_decoded_at_once_as_the_budget_holds(backbone, photographs, monkeypatch):
    root, listed = photographs
    decode, lock, now, most = ImageFile.decode, threading.Lock(), [0], [0]

    class Counted:
        """Stands for a decoded image: counts how many there are."""

        def __init__(self, decoded: DecodedImage) -> None:
            self._decoded = decoded
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])

        def __getattr__(self, name: str):
            return getattr(self._decoded, name)

        def __del__(self) -> None:
            with lock:
                now[0] -= 1

    monkeypatch.setattr(ImageFile, "decode", lambda file: Counted(decode(file)))
    needed = 2000 * 1500 * 4 + backbone.preprocessing.needed_bytes((2000, 1500))
    for n_bytes, at_once in ((1, 1), (2 * needed, 2), (10**10, 4)):
        most[0] = 0
        budget = Recording(n_bytes)
        found = batches(backbone, root, listed[:12], budget=budget, batch_size=8)
        assert [batch.images for batch in found] == [tuple(range(8)), tuple(range(8, 12))]
        assert budget.most <= n_bytes
        assert 1 <= most[0] <= at_once
        assert now == [0]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel does not tell the peak of memory")
def test_the_memory_of_an_extraction_does_not_grow_with_the_images(backbone: Backbone, photographs):
    """64 of them are 768 MB in memory, in two batches."""
    root, listed = photographs

    def extract(listed):
        extraction = ExtractionConfig(batch_size=32, max_image_pixels=MAX_PIXELS)
        return extract_shard(backbone, source_at(root), listed, extraction, on_batch=lambda n_done: None)

    extract(listed[:1])
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is
    before = _peak()
    result = extract(listed)
    assert len(result.activations[1]) == 64
    assert _peak() - before < 300 << 20


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def test_the_same_images_whatever_is_lent(backbone, images, listed):
    expected = batches(backbone, images, listed, n_views=2)
    found = batches(backbone, images, listed, n_views=2, budget=MemoryBudget(1))
    for a, b in zip(found, expected, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(a.views, b.views, strict=True))


def test_views_of_a_large_image_are_counted(backbone, photographs):
    root, listed = photographs
    budget = Recording(1 << 30)
    batches(backbone, root, listed[:1], n_views=2, budget=budget)
    assert budget.asked[0] > 2000 * 1500 * (4 + prepare_module.VIEW_BYTES)  # type: ignore[attr-defined]
