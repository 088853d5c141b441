"""Data sets whose files the extraction is the first to read."""

import os
import shutil

import pytest
from tests.datasets.small_images import CAT, DOG, add_image

from hsae.datasets import ImageSource, Stamp, scan, source_at
from hsae.datasets.sources.local_files import LocalFiles
from hsae.errors import UserError


def unread(path, wordnet):
    return scan(path, wordnet, checksums="extraction")


@pytest.fixture
def unreadable(monkeypatch):
    """No file of this machine can be opened as an image."""

    def refuse(self, path):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(LocalFiles, "open", refuse)
    monkeypatch.setattr(LocalFiles, "read", refuse)


def test_no_file_is_read(pets, wordnet, unreadable):
    dataset = unread(pets, wordnet)
    assert dataset.checksums == "extraction"
    assert dataset.listing.column_names == ["image", "path", "class_id", "version", "n_bytes"]
    assert dataset.listing["class_id"].to_pylist() == [DOG, DOG, CAT]
    files = [pets / path for path in dataset.listing["path"].to_pylist()]
    assert dataset.listing["n_bytes"].to_pylist() == [file.stat().st_size for file in files]
    stamps = [f"{file.stat().st_size}-{file.stat().st_mtime_ns}" for file in files]
    assert dataset.listing["version"].to_pylist() == stamps
    assert unread(pets, wordnet).fingerprint == dataset.fingerprint


def test_files_are_read_at_the_registration_unless_said_otherwise(pets, wordnet):
    dataset = scan(pets, wordnet)
    assert dataset.checksums == "registration"
    assert "version" not in dataset.listing.column_names


def test_the_fingerprint_is_of_versions(pets, wordnet, tmp_path):
    fingerprint = unread(pets, wordnet).fingerprint
    assert fingerprint != scan(pets, wordnet).fingerprint
    shutil.copytree(pets, tmp_path / "copy")  # with its files' times
    assert unread(tmp_path / "copy", wordnet).fingerprint == fingerprint
    one = pets / "dog.n.01" / "b.png"
    os.utime(one, ns=(0, one.stat().st_mtime_ns + 1))
    assert unread(pets, wordnet).fingerprint != fingerprint


def test_several_labels_and_groups(pets, wordnet, tmp_path):
    listing = tmp_path / "pets.csv"
    listing.write_text(
        f"path,label,group\npets/dog.n.01/b.png,{DOG},x\npets/dog.n.01/b.png,{CAT},x\npets/{CAT}/c.webp,{CAT},\n"
    )
    dataset = unread(listing, wordnet)
    assert dataset.listing.column_names == ["image", "path", "class_ids", "version", "n_bytes", "group"]
    rows = dict(zip(dataset.listing["path"].to_pylist(), dataset.listing["class_ids"].to_pylist(), strict=True))
    assert rows == {f"pets/{CAT}/c.webp": [CAT], "pets/dog.n.01/b.png": sorted([CAT, DOG])}


def test_a_listed_file_that_is_missing_is_named(pets, wordnet, tmp_path):
    listing = tmp_path / "pets.csv"
    listing.write_text(f"path,label\npets/dog.n.01/b.png,{DOG}\npets/absent.png,{CAT}\n")
    with pytest.raises(UserError, match=r"absent\.png"):
        unread(listing, wordnet)


def test_a_source_that_cannot_tell_a_replaced_image_is_refused(pets, wordnet, monkeypatch):
    monkeypatch.setattr(LocalFiles, "stamp", lambda self, path: Stamp(""))
    with pytest.raises(UserError, match=r"only reading an image tells .*--checksums registration") as error:
        unread(pets, wordnet)
    assert str(error.value).startswith(str(pets))


def test_a_stamp_is_the_version_alone_unless_a_source_knows_more(pets):
    source = source_at(pets)
    add_image(pets / "dog.n.01" / "d.png", 4)
    assert ImageSource.stamp(source, "dog.n.01/d.png") == Stamp(source.version("dog.n.01/d.png"))
    assert source.stamp("dog.n.01/d.png").n_bytes == (pets / "dog.n.01" / "d.png").stat().st_size
