"""ImageNet's flat folder of validation images: every file of labels that people keep beside it."""

import numpy as np
import pytest
from scipy.io import savemat
from tests.datasets.sources.test_parquet import png

from hsae.datasets import scan, source_at
from hsae.errors import UserError
from hsae.taxonomy import load_taxonomy

WNIDS = ["n02084071", "n02121620", "n02084071"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "ILSVRC" / "val"
    folder.mkdir(parents=True)
    for number in range(1, 4):
        (folder / f"ILSVRC2012_val_{number:08}.JPEG").write_bytes(png(number))
    (folder / "readme.txt").write_text("")
    return folder


def of_kaggle(folder):
    lines = [f"ILSVRC2012_val_{n:08},{wnid} 1 2 3 4 {wnid} 5 6 7 8" for n, wnid in enumerate(WNIDS, start=1)]
    (folder.parent / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(lines)]))


def of_list(folder):
    (folder / "synset_labels.txt").write_text("\n".join(WNIDS))


def of_devkit(folder):
    data = folder.parents[1] / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n2\n")
    rows = np.array([(1, "n02121620"), (2, "n02084071")], dtype=[("ILSVRC2012_ID", "i4"), ("WNID", "U9")])
    savemat(data / "meta.mat", {"synsets": rows})


@pytest.mark.parametrize("labels", [of_kaggle, of_list, of_devkit])
def test_labels_from_every_file(folder, labels):
    labels(folder)
    dataset = scan(folder, load_taxonomy())
    assert dataset.listing["class_id"].to_pylist() == WNIDS
    assert dataset.listing["path"].to_pylist()[0] == "ILSVRC2012_val_00000001.JPEG"
    assert dataset.left_out.files[".txt"] >= 1
    assert source_at(dataset.source.root).read("ILSVRC2012_val_00000002.JPEG") == png(2)


def test_labels_that_are_missing_or_of_other_images(folder):
    with pytest.raises(UserError, match=r"no file of their labels.*LOC_val_solution\.csv, synset_labels\.txt"):
        source_at(str(folder)).labels()
    (folder / "synset_labels.txt").write_text("n02084071\nn02121620\n")
    with pytest.raises(UserError, match=r"no label for 1 of the images.*first ILSVRC2012_val_00000003\.JPEG"):
        source_at(str(folder)).list()
    (folder / "synset_labels.txt").unlink()
    (folder / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_x,\n")
    with pytest.raises(UserError, match="cannot be read as labels of ImageNet's validation images"):
        source_at(str(folder)).labels()
