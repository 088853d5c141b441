"""Images in Parquet files: columns, labels, row groups, and one line for everything that is wrong."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hsae.datasets import check_images, scan, source_at
from hsae.datasets.sources.packed import ParquetSource
from hsae.errors import UserError
from hsae.taxonomy import load_taxonomy

NAMES = ["dog.n.01", "cat.n.01", "crane.n.05"]


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 2 * number, 3)).save(stream, "PNG")
    return stream.getvalue()


def cells(numbers):
    """The image column as `datasets` writes it."""
    return [{"bytes": png(number), "path": f"{number}.png"} for number in numbers]


def write(path, columns, *, names=NAMES, label="label", row_group_size=2):
    table = pa.table(columns)
    if names is not None:
        features = {label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


@pytest.fixture
def two_files(tmp_path):
    write(tmp_path / "data" / "train-0.parquet", {"image": cells(range(5)), "label": [0, 1, 2, 0, 1]})
    write(tmp_path / "data" / "train-1.parquet", {"image": cells(range(5, 8)), "label": [2, 1, 0]})
    write(tmp_path / "data" / "test-0.parquet", {"image": cells([9]), "label": [0]})
    return tmp_path / "data"


def labels_of(source):
    return {image.path: image.labels for image in source.list().images}


@pytest.mark.parametrize("pattern", ["train-*.parquet", "train-{0..1}.parquet"])
def test_the_files_of_a_pattern_with_the_names_of_their_classes(two_files, pattern):
    source = source_at(f"parquet://{two_files}/{pattern}")
    assert isinstance(source, ParquetSource)
    assert labels_of(source) == {
        f"train-{file}.parquet/{row:09}": (NAMES[label],)
        for file, labels in enumerate([[0, 1, 2, 0, 1], [2, 1, 0]])
        for row, label in enumerate(labels)
    }
    dataset = scan(source.uri, load_taxonomy())
    again = source_at(dataset.source.root)
    paths = dataset.listing["path"].to_pylist()
    assert [again.read(path) for path in paths] == [png(number) for number in range(8)]
    # In any order: another row group of a file, another file.
    assert [again.read(paths[number]) for number in (7, 0, 4, 1)] == [png(number) for number in (7, 0, 4, 1)]
    assert check_images(dataset, max_pixels=1000) == []
    assert again.locate(paths[0]) == str(two_files / paths[0])


def test_a_path_and_a_folder(two_files):
    assert len(source_at(str(two_files / "train-0.parquet")).list().images) == 5
    assert len(source_at(f"parquet://{two_files}").list().images) == 9
    with pytest.raises(UserError, match=rf"found: 3 \.parquet.*'parquet://{two_files}/train-\*\.parquet'"):
        source_at(str(two_files)).labels()


def test_columns_by_name_texts_lists_and_groups(tmp_path):
    columns = {
        "photo": [png(1), png(2), png(3)],
        "thumbnail": [png(4), png(5), png(6)],
        "breed": [["dog.n.01", "cat.n.01"], ["cat.n.01", "cat.n.01"], ["dog.n.01"]],
        "camera": ["a", None, "7"],
    }
    path = write(tmp_path / "x.parquet", columns, names=None)
    with pytest.raises(UserError, match=r"several columns of bytes \(photo, thumbnail\).*\?image=NAME"):
        source_at(str(path)).list()
    source = source_at(f"parquet://{path}?image=photo&label=breed&group=camera")
    images = source.list().images
    assert [(image.labels, image.group) for image in images] == [
        (("dog.n.01", "cat.n.01"), "a"),
        (("cat.n.01",), None),
        (("dog.n.01",), "7"),
    ]
    assert source_at(source.root).read(images[2].path) == png(3)


def test_numbers_are_named_by_a_file(tmp_path):
    path = write(tmp_path / "x.parquet", {"image": cells([1, 2]), "label": [1, 0]}, names=None)
    with pytest.raises(
        UserError, match=r"row 0: the label is the number 1, and nothing names the classes.*classes\.txt"
    ):
        source_at(str(path)).list()
    (tmp_path / "classes.txt").write_text("dog.n.01\ncat.n.01\n")
    assert [image.labels for image in source_at(str(path)).list().images] == [("cat.n.01",), ("dog.n.01",)]
    (tmp_path / "few.txt").write_text("dog.n.01\n")
    with pytest.raises(UserError, match="number 1, and there are 1 class names"):
        source_at(f"parquet://{path}?classes=few.txt").list()
    (tmp_path / "few.txt").write_text("dog.n.01\n\ncat.n.01\n")
    with pytest.raises(UserError, match="few.txt, line 2: is empty"):
        source_at(f"parquet://{path}?classes=few.txt").list()
    with pytest.raises(UserError, match="none.txt: there is no such file of class names"):
        source_at(f"parquet://{path}?classes=none.txt").list()


def test_names_of_classes_that_look_like_numbers(tmp_path):
    """Numbers with names such as `0`, and texts that are digits, are of one kind each."""
    write(tmp_path / "x.parquet", {"image": cells([1, 2]), "label": [0, 1]}, names=["0", "cat"])
    write(tmp_path / "y.parquet", {"image": cells([1, 2]), "label": ["0", "cat"]}, names=None)
    for name in ("x", "y"):
        images = source_at(str(tmp_path / f"{name}.parquet")).list().images
        assert [image.labels for image in images] == [("0",), ("cat",)]


def test_numbers_in_one_file_and_names_in_another(two_files):
    write(two_files / "train-1.parquet", {"image": cells([5, 6]), "label": ["dog.n.01", "cat.n.01"]}, names=None)
    with pytest.raises(UserError) as error:
        source_at(f"parquet://{two_files}/train-*.parquet").list()
    assert str(error.value) == (
        f"parquet://{two_files}/train-*.parquet: mixes 5 labels that are numbers (first: {two_files}/train-0.parquet,"
        f" row 0) and 2 that are names (first: {two_files}/train-1.parquet, row 0); write all of them as numbers, or"
        " all as names"
    )


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"image": [png(1)], "kind": [0]}, r"no column label, .*\(all: image, kind\).*\?label=NAME"),
        ({"image": ["a.png"], "label": [0]}, "no column of bytes among image, label"),
        ({"image": [png(1)], "label": [0], "labels": [[0]]}, "the columns label and labels"),
        ({"image": [png(1)], "label": pa.array([None], pa.int64())}, "row 0: column label has no label"),
        ({"image": [png(1)], "label": [1.5]}, "row 0: the label 1.5 is neither text nor a whole number"),
        ({"image": [png(1)], "label": [7]}, "number 7, and there are 3 class names"),
    ],
)
def test_columns_that_cannot_be_used(tmp_path, columns, problem):
    with pytest.raises(UserError, match=problem):
        source_at(str(write(tmp_path / "x.parquet", columns))).list()


def listed(location):
    source = source_at(location)
    source.check()
    return source.list()


def test_files_that_cannot_be_used(tmp_path, two_files):
    def refused(location):
        with pytest.raises(UserError) as caught:
            listed(location)
        (line,) = str(caught.value).splitlines()
        return line

    assert "there is no file" in refused(str(tmp_path / "none.parquet"))
    assert "train-3.parquet" in refused(f"parquet://{two_files}/train-{{0..3}}.parquet")
    assert "no .parquet file is there" in refused(f"parquet://{two_files}/val-*.parquet")
    assert "three slashes" in refused("parquet://data/train.parquet")
    assert "no setting splt; known: image, label, group, classes" in refused(f"parquet://{two_files}?splt=train")
    assert "no range of at most" in refused(f"parquet://{two_files}/train-{{7..1}}.parquet")
    (tmp_path / "text.parquet").write_text("not a table")
    assert "no readable Parquet file" in refused(str(tmp_path / "text.parquet"))
    write(two_files / "train-2.parquet", {"picture": cells([1]), "label": [0]})
    assert "train-2.parquet: has no column image; it has picture, label" in refused(
        f"parquet://{two_files}/train-*.parquet"
    )


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "x.parquet"
    rows = [{"bytes": png(1), "path": None}, {"bytes": None, "path": "far/away.png"}]
    write(path, {"image": rows, "label": [0, 1]})
    with pytest.raises(UserError, match=r"x\.parquet/000000001: cannot be read \(.*only the path far/away\.png"):
        scan(path, load_taxonomy())
    source = source_at(str(path))
    for place, problem in {
        "x.parquet/000000007": "2 rows",
        "x.parquet/one": "no number",
        "one": "names no .parquet",
    }.items():
        with pytest.raises(OSError, match=problem):
            source.read(place)


def test_damage_after_registration_is_an_error_of_the_image(two_files):
    source = source_at(str(two_files / "train-0.parquet"))
    (path, *_) = labels_of(source)
    file = two_files / "train-0.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(OSError, match="no readable Parquet file|Parquet"):
        source_at(str(file)).read(path)
