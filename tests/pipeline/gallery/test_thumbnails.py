"""Thumbnails of real images, of what cannot be shown, and the bound of their cache."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.datasets.decoding.pictures import png

from hsae.demo import images_folder
from hsae.errors import UserError
from hsae.pipeline.gallery import thumbnails
from hsae.pipeline.gallery.thumbnails import Thumbnails


def noise(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def count_made(monkeypatch) -> list[str]:
    """The images that are decoded from now on."""
    made = []
    make = Thumbnails._made
    monkeypatch.setattr(
        Thumbnails, "_made", lambda self, root, path, side: made.append(path) or make(self, root, path, side)
    )
    return made


@pytest.mark.parametrize("cached", [True, False])
def test_images_of_the_demo(tmp_path, monkeypatch, cached):
    root = images_folder()
    paths = sorted(file.relative_to(root).as_posix() for file in root.rglob("*.webp"))[:20]
    gallery = Thumbnails(tmp_path / "cache" if cached else None, side=48)
    made = count_made(monkeypatch)
    first = [gallery.get(str(root), path) for path in paths]
    for content, path in zip(first, paths, strict=True):
        small, whole = opened(content), Image.open(root / path)
        assert (small.format, small.mode, max(small.size)) == ("WEBP", "RGB", min(48, max(whole.size)))
        white = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole.convert("RGBA")).convert("RGB")
        wanted = np.asarray(white.resize(small.size, Image.Resampling.LANCZOS), dtype=float)
        assert np.abs(np.asarray(small, dtype=float) - wanted).mean() < 12, path
    assert [gallery.get(str(root), path) for path in paths] == first
    assert made == paths, "a picture that is cached is not decoded again"


def test_another_side_is_another_picture(tmp_path):
    noise(tmp_path / "a.png", (300, 150))
    gallery = Thumbnails(tmp_path / "cache")
    assert opened(gallery.get(str(tmp_path), "a.png")).size == (160, 80)
    assert opened(gallery.get(str(tmp_path), "a.png", side=30)).size == (30, 15)
    assert opened(gallery.get(str(tmp_path), "a.png", side=100_000)).size == (300, 150)
    assert opened(gallery.get(str(tmp_path), "a.png")).size == (160, 80)


def test_a_file_that_was_replaced_is_decoded_anew(tmp_path):
    noise(tmp_path / "a.png", (40, 20))
    gallery = Thumbnails(tmp_path / "cache")
    assert opened(gallery.get(str(tmp_path), "a.png")).size == (40, 20)
    noise(tmp_path / "a.png", (20, 40))
    assert opened(gallery.get(str(tmp_path), "a.png")).size == (20, 40)


def test_a_cached_file_that_was_cut_off_is_made_anew(tmp_path):
    noise(tmp_path / "a.png", (40, 20))
    gallery = Thumbnails(tmp_path / "cache")
    content = gallery.get(str(tmp_path), "a.png")
    (kept,) = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    kept.write_bytes(content[:50])
    assert gallery.get(str(tmp_path), "a.png") == content == kept.read_bytes()


def fails(gallery: Thumbnails, root: object, path: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        gallery.get(str(root), path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_shown_is_one_line(tmp_path):
    gallery = Thumbnails(tmp_path / "cache", max_pixels=1_000_000)
    root = tmp_path / "root"
    noise(root / "a.png", (40, 20))
    fails(
        gallery, tmp_path / "not-mounted", "a.png", "not-mounted: the data set's folder is not on this machine; mount"
    )
    fails(gallery, "s4://bucket/images", "a.png", "there is no image source for s4://")
    fails(gallery, root, "gone.png", "gone.png: the file is gone")
    fails(gallery, root, ".", "cannot be read")
    fails(gallery, root, "nul\0.png", "cannot be read")
    (root / "huge.png").write_bytes(png(100_000, 100_000, 8, 2, b""))
    fails(gallery, root, "huge.png", "huge.png: more than the limit of 1000000 pixels")
    (root / "line.png").write_bytes(png(600, 1, 8, 2, b""))
    fails(gallery, root, "line.png", "one side more than 500 times the other")
    (root / "damaged.png").write_bytes((root / "a.png").read_bytes()[:200])
    fails(gallery, root, "damaged.png", "damaged.png: damaged image")
    (root / "text.png").write_text("no image")
    fails(gallery, root, "text.png", "text.png: not a readable")
    assert size_of(tmp_path / "cache") == 0 if (tmp_path / "cache").exists() else True
    assert opened(gallery.get(str(root), "a.png")).size == (40, 20), "one bad image does not spoil the others"


def test_a_large_image_within_the_limit(tmp_path):
    Image.new("RGB", (9000, 6000), (200, 40, 40)).save(tmp_path / "large.jpg")
    small = opened(Thumbnails(None).get(str(tmp_path), "large.jpg"))
    assert small.size == (160, 107)
    assert np.abs(np.asarray(small, dtype=int) - (200, 40, 40)).max() < 6


def test_the_cache_stays_within_its_bound(tmp_path, monkeypatch):
    bound = 400_000
    gallery = Thumbnails(tmp_path / "cache", side=32, max_bytes=bound)
    for image in range(300):
        noise(tmp_path / "root" / f"{image}.png", (32, 32), seed=image)
        gallery.get(str(tmp_path / "root"), f"{image}.png")
        assert size_of(tmp_path / "cache") <= bound
    assert size_of(tmp_path / "cache") > bound / 4, "the bound is used"
    made = count_made(monkeypatch)
    gallery.get(str(tmp_path / "root"), "299.png")
    assert made == [], "the newest is kept"


def test_memory_stays_within_its_bound(tmp_path):
    memory = thumbnails._Memory(100)
    for key in "abc":
        memory.put(key, key.encode() * 40)
    assert [memory.get(key) is not None for key in "abc"] == [False, True, True]
    memory.get("b")
    memory.put("d", b"d" * 40)
    assert [memory.get(key) is not None for key in "bcd"] == [True, False, True], "what was asked for last stays"
    memory.put("e", b"e" * 101)
    assert memory.get("e") is None


_WRITER = """
import sys
from pathlib import Path
from hsae.pipeline.gallery.thumbnails import Thumbnails

root, cache = sys.argv[1:]
gallery = Thumbnails(Path(cache), side=32, max_bytes=200_000)
for _ in range(3):
    for image in range(100):
        assert gallery.get(root, f"{image}.png").startswith(b"RIFF")
"""


def test_processes_and_threads_share_a_cache(tmp_path):
    root, cache = tmp_path / "root", tmp_path / "cache"
    for image in range(100):
        noise(root / f"{image}.png", (32, 32), seed=image)
    started = [subprocess.Popen([sys.executable, "-c", _WRITER, str(root), str(cache)]) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    assert 0 < size_of(cache) <= 200_000
    assert not list(cache.rglob(".*")), "no file is left half-written"
    gallery = Thumbnails(cache, side=32, max_bytes=200_000)
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda image: gallery.get(str(root), f"{image % 20}.png"), range(80)))
    assert pictures[:20] * 4 == pictures


def test_without_a_place_to_write_pictures_are_made_each_time(tmp_path):
    noise(tmp_path / "a.png", (40, 20))
    (tmp_path / "cache").write_text("a file where the folder should be")
    gallery = Thumbnails(tmp_path / "cache")
    assert opened(gallery.get(str(tmp_path), "a.png")).size == (40, 20)
