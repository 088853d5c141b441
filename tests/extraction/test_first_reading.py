"""Images whose files no registration has read: their versions stand for their contents."""

import hashlib
import os

import pytest
from PIL import Image

from hsae.datasets import scan, source_at
from hsae.datasets.sources.local_files import LocalFiles
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.listed import ListedImage, listed_images
from hsae.extraction.shards import extract_shard
from hsae.taxonomy import load_taxonomy


@pytest.fixture
def unread(images) -> list[ListedImage]:
    """The nine images as a listing of versions has them."""
    source = source_at(images)
    names = [f"{number}.webp" for number in range(9)]
    return [ListedImage(number, name, None, source.version(name)) for number, name in enumerate(names)]


def shard_of(backbone, images, listed):
    extraction = ExtractionConfig(batch_size=4)
    return extract_shard(backbone, source_at(images), listed, extraction, on_batch=lambda n: None)


def test_the_same_activations_and_checksums_of_what_was_read(backbone, images, listed, unread):
    (images / "4.webp").write_bytes(b"no image")
    listed[4] = ListedImage(4, "4.webp", hashlib.sha256(b"no image").hexdigest())
    unread[4] = ListedImage(4, "4.webp", None, source_at(images).version("4.webp"))
    known, found = shard_of(backbone, images, listed), shard_of(backbone, images, unread)
    assert found.checksums == known.checksums == {one.image: one.sha256 for one in listed if one.image != 4}
    assert all(bool((found.activations[layer] == values).all()) for layer, values in known.activations.items())


def test_a_file_of_another_version_is_an_error(backbone, images, unread):
    Image.new("RGB", (96, 96), "red").save(images / "6.webp")
    with pytest.raises(UserError, match=r"6\.webp has changed since .* \(by its size or time\): .*`dataset add`"):
        shard_of(backbone, images, unread)


def test_a_file_that_is_gone_is_an_error(backbone, images, unread):
    (images / "8.webp").unlink()
    with pytest.raises(UserError, match=r"8\.webp cannot be read"):
        shard_of(backbone, images, unread)


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(backbone, images, unread, monkeypatch):
    opened = LocalFiles.open

    def replace(self, path):
        stream = opened(self, path)
        if path == "3.webp":
            os.utime(images / path, ns=(0, 1))
        return stream

    monkeypatch.setattr(LocalFiles, "open", replace)
    with pytest.raises(UserError, match=r"3\.webp has changed"):
        shard_of(backbone, images, unread)


def test_rows_of_both_kinds_of_listing(images, both_listings):
    known, unread = both_listings
    assert listed_images(known, [1, 0]) == [
        ListedImage(number, known["path"][number].as_py(), known["sha256"][number].as_py()) for number in (1, 0)
    ]
    assert listed_images(unread, range(2)) == [
        ListedImage(number, unread["path"][number].as_py(), None, unread["version"][number].as_py())
        for number in range(2)
    ]
    assert listed_images(known, []) == []


@pytest.fixture
def both_listings(tmp_path, images):
    """The listing of two images of two classes, with checksums and with versions."""
    tree = tmp_path / "tree.csv"
    tree.write_text("child,parent\ncat,animal\ndog,animal\n")
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "two" / name).mkdir(parents=True)
        (images / f"{number}.webp").rename(tmp_path / "two" / name / "image.webp")
    taxonomy = load_taxonomy(tree)
    return tuple(scan(tmp_path / "two", taxonomy, checksums=when).listing for when in ("registration", "extraction"))
