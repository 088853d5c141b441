"""Folders and files whose names begin with a wnid, as ImageNet's do."""

import os
import shutil

import pytest
from tests.datasets.sources.test_parquet import png

from hsae.datasets import scan, source_at
from hsae.datasets.sources.folder import FolderSource
from hsae.datasets.sources.wnid_files import WnidFilesSource
from hsae.errors import UserError
from hsae.taxonomy import load_taxonomy

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"


def write(folder, *names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
    return folder


def classes_in(dataset):
    return dict(zip(dataset.listing["path"].to_pylist(), dataset.listing["class_id"].to_pylist(), strict=True))


def test_class_folders_of_a_wnid_and_a_name(tmp_path):
    write(tmp_path, "n01440764_tench/a.png", "n01440764_tench/b.png", "n01484850_great_white_shark/c.png")
    dataset = scan(tmp_path, load_taxonomy())
    assert dataset.n_images == 3
    assert dataset.class_names == {TENCH: "n01440764_tench", SHARK: "n01484850_great_white_shark"}
    assert list(classes_in(dataset).values()) == [TENCH, TENCH, SHARK]
    assert dataset.merged == {}


def test_files_of_a_wnid_in_one_folder(tmp_path):
    names = {
        "n01440764_10026.JPEG": TENCH,  # as in ImageNet's train.tar
        "n01440764_10029_n01440764.JPEG": TENCH,  # as the Hugging Face Hub names them
        "n01440764_tench_001.JPEG": TENCH,
        "n01440764_tench, Tinca tinca (2).png": TENCH,
        "n01443537.jpg": GOLDFISH,
        "n01484850-great_white_shark-7f3a.png": SHARK,
        "n01484850_great white shark.png": SHARK,
        "n01440764_train_2.JPEG": TENCH,  # words that are no name of the class
        "n01440764-val-3.jpg": TENCH,
        "n01440764_tench_a.jpg": TENCH,
        "n01440764_abcdefab-1234-4f6a-9e4b-0123456789ab.jpg": TENCH,
        "n01440764(1).jpg": TENCH,  # a browser's copy
        "n01443537 - Kopie.jpg": GOLDFISH,
        "n01443537@2x.jpg": GOLDFISH,
    }
    write(tmp_path, *names, "@eaDir/n01440764_1.JPEG/thumb.jpg")
    (tmp_path / "readme.txt").write_text("")
    dataset = scan(tmp_path, load_taxonomy())
    assert classes_in(dataset) == names
    assert dataset.merged == {}
    assert dataset.left_out.text() == "1 .txt; 1 folder of other programs (@eaDir)"
    again = source_at(dataset.source.root)
    assert isinstance(again, WnidFilesSource)
    assert again.read("n01443537.jpg") == png(4)
    moved = shutil.copytree(tmp_path, tmp_path.with_name("moved"))
    assert scan(moved, load_taxonomy()).fingerprint == dataset.fingerprint


def test_a_file_without_a_wnid(tmp_path):
    write(tmp_path, "n01440764_10026.JPEG", "n01443537_2.JPEG", "img_0003.JPEG", "n014435371_4.JPEG")
    with pytest.raises(UserError, match=r"2 of 4 images have no wnid at the start.*as n01440764_10026\.JPEG") as error:
        scan(tmp_path, load_taxonomy())
    assert "first 'img_0003.JPEG'; rename or remove them" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("n99999999_10026.JPEG", r"label 'n99999999' of n99999999_10026\.JPEG: .*n99999999.*; correct the file name"),
        ("n01440764_10026_n01484850.JPEG", r"'n01440764_n01484850' contradicts itself: n01440764 is tench\.n\.01"),
    ],
)
def test_a_wnid_that_is_none_or_that_another_contradicts(tmp_path, name, problem):
    write(tmp_path, "n01440764_1.JPEG", "n01443537_2.JPEG", name)
    with pytest.raises(UserError, match=problem) as error:
        scan(tmp_path, load_taxonomy())
    assert "\n" not in str(error.value)


def test_folders_beside_the_files(tmp_path):
    """Class folders decide, wherever they stand, and neither is dropped in silence."""
    write(tmp_path, "n01440764_1.JPEG", "n01443537_2.JPEG", "dog.n.01/a.png", "cat.n.01/b.png")
    assert isinstance(source_at(str(tmp_path)), FolderSource)
    assert scan(tmp_path, load_taxonomy()).left_out.text() == "beside the class folders 2 .jpeg"
    with pytest.raises(UserError, match="holds images named by their wnid and also folders, first 'cat.n.01'"):
        WnidFilesSource(tmp_path).labels()


class Scanned(list):
    """Entries in an order of our own: a file system has any."""

    def __enter__(self):
        return iter(self)

    def __exit__(self, *_):
        pass


@pytest.mark.parametrize("folders_first", [True, False])
def test_folders_beside_more_files_than_are_looked_at(tmp_path, monkeypatch, folders_first):
    """The order in which a file system lists a folder decides nothing."""
    files = [f"n01440764_{number}.JPEG" for number in range(100)]
    write(tmp_path, "tench/a.png", "goldfish/b.png")
    for name in files:
        (tmp_path / name).touch()
    scandir = os.scandir

    def ordered(path):
        with scandir(path) as scanned:
            return Scanned(sorted(scanned, key=lambda entry: entry.is_dir() != folders_first))

    monkeypatch.setattr(os, "scandir", ordered)
    source = source_at(str(tmp_path))
    assert isinstance(source, FolderSource)
    assert source.list().left_out.text() == "beside the class folders 100 .jpeg"
    shutil.rmtree(tmp_path / "tench")
    shutil.rmtree(tmp_path / "goldfish")
    assert isinstance(source_at(str(tmp_path)), WnidFilesSource)
