"""Arrow files in the folders that `datasets` writes: splits, columns, damage, and one line for everything wrong."""

import json
import shutil
import threading

import pyarrow as pa
import pytest
from tests.datasets.sources.test_parquet import NAMES, cells, png

from hsae.datasets import check_images, scan, source_at
from hsae.datasets.sources.packed import ArrowSource
from hsae.errors import UserError
from hsae.taxonomy import load_taxonomy

FEATURES = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}


def write_arrow(path, columns, *, features=FEATURES, rows_a_batch=2):
    """A file as `datasets.arrow_writer` makes it: a stream whose schema has the features."""
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows_a_batch)
    return path


def saved(folder, files, **state):
    """A folder of `Dataset.save_to_disk`."""
    names = [f"data-{number:05}-of-{len(files):05}.arrow" for number in range(len(files))]
    for name, columns in zip(names, files, strict=True):
        write_arrow(folder / name, columns)
    info = {"builder_name": "pets", "features": FEATURES, "splits": {"train": {"num_examples": 9}, "test": {}}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    listed = [{"filename": name} for name in names]
    described = {"_data_files": listed, "_fingerprint": "5d", "_format_columns": None, "_split": "train", **state}
    (folder / "state.json").write_text(json.dumps(described))
    return folder


@pytest.fixture
def pets(tmp_path):
    columns = [
        {"image": cells(range(5)), "label": [0, 1, 2, 0, 1]},
        {"image": cells(range(5, 8)), "label": [2, 1, 0]},
    ]
    return saved(tmp_path / "pets", columns)


def listed(location):
    source = source_at(location)
    source.check()
    return source.list()


def refused(location):
    with pytest.raises(UserError) as caught:
        listed(location)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_folder_of_save_to_disk_with_the_names_of_its_classes(pets):
    write_arrow(pets / "cache-1f.arrow", {"image": cells([9]), "label": [0]})  # what map() left there
    source = source_at(str(pets))
    assert isinstance(source, ArrowSource)
    dataset = scan(str(pets), load_taxonomy())
    paths = dataset.listing["path"].to_pylist()
    assert paths == [
        *(f"data-00000-of-00002.arrow/{row:09}" for row in range(5)),
        *(f"data-00001-of-00002.arrow/{row:09}" for row in range(3)),
    ]
    assert {image.path: image.labels for image in source.list().images} == {
        path: (NAMES[label],) for path, label in zip(paths, [0, 1, 2, 0, 1, 2, 1, 0], strict=True)
    }
    again = source_at(dataset.source.root)
    assert [again.read(paths[number]) for number in (7, 0, 4, 1)] == [png(number) for number in (7, 0, 4, 1)]
    assert check_images(dataset, max_pixels=1000) == []
    assert again.locate(paths[0]) == str(pets / paths[0])


def test_threads_read_the_same_files(pets):
    source = source_at(str(pets))
    paths = [image.path for image in source.list().images]
    read = {}

    def take(name):
        read[name] = [source.read(path) for path in paths]

    threads = [threading.Thread(target=take, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(map(tuple, read.values())) == {tuple(map(png, range(8)))}


def test_splits_of_a_dataset_dict(pets, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(pets, both / "train")
    saved(both / "test", [{"image": cells([9]), "label": [0]}])
    (both / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    assert f"holds the splits test, train; name one: arrow://{both}?split=test" in refused(str(both))
    assert "has no split val; it has test, train" in refused(f"arrow://{both}?split=val")
    chosen = source_at(f"arrow://{both}?split=test")
    (image,) = chosen.list().images
    assert source_at(chosen.root).read(image.path) == png(9)
    # The same images by the folder of the split: the same paths, and so the same data set.
    assert source_at(str(both / "test")).list().images == [image]
    (both / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    assert len(source_at(str(both)).list().images) == 8


def test_a_folder_of_the_cache(tmp_path):
    folder = tmp_path / "owner___pets" / "default" / "0.0.0" / "5d"
    for split, numbers in {"train-00000-of-00002": [1, 2], "train-00001-of-00002": [3], "test": [4]}.items():
        columns = {"image": cells(numbers), "label": [0] * len(numbers)}
        write_arrow(folder / f"pets-{split}.arrow", columns)
    write_arrow(folder / "cache-00.arrow", {"image": cells([9]), "label": [0]})
    info = {"features": FEATURES, "splits": {"train": {"num_examples": 3}, "test": {"num_examples": 1}}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert "holds the splits test, train" in refused(str(folder))
    assert f"such as {folder}" in refused(f"arrow://{tmp_path / 'owner___pets'}")
    train = source_at(f"arrow://{folder}?split=train")
    assert [train.read(image.path) for image in train.list().images] == [png(1), png(2), png(3)]
    assert [image.path for image in source_at(f"arrow://{folder}/pets-test.arrow").list().images] == [
        "pets-test.arrow/000000000"
    ]
    write_arrow(tmp_path / "alone" / "x.arrow", {"image": cells([1]), "label": [0]})
    assert f"'arrow://{tmp_path}/alone/train-*.arrow'" in refused(str(tmp_path / "alone"))


def test_a_file_that_can_be_read_at_any_place(tmp_path):
    """The other format of Arrow, which pandas, Polars and others write."""
    table = pa.table({"photo": [png(1), png(2)], "breed": ["dog.n.01", "cat.n.01"], "camera": ["a", None]})
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    source = source_at(f"arrow://{tmp_path}/x.arrow?label=breed&group=camera")
    assert [(image.labels, image.group) for image in source.list().images] == [
        (("dog.n.01",), "a"),
        (("cat.n.01",), None),
    ]
    assert source.read("x.arrow/000000001") == png(2)


def test_all_that_is_wrong_with_columns_and_rows_is_one_line(tmp_path):
    path = write_arrow(tmp_path / "x.arrow", {"picture": ["a.png"], "kind": [0]})
    line = refused(str(path))
    assert "no column of bytes among picture, kind; name the images' column: arrow://" in line
    assert "no column label, labels" in line
    line = refused(f"arrow://{path}?image=kind&label=breed")
    assert "has no column breed; it has picture, kind" in line
    assert "column kind holds no images but int64; no column holds bytes" in line
    labels = [0, None, 3, *[-1] * 6]
    path = write_arrow(tmp_path / "y.arrow", {"image": cells(range(9)), "label": pa.array(labels, pa.int64())})
    line = refused(str(path))
    for part in ("row 1: column label has no label", "row 2: the label is the number 3", "and 3 more like these"):
        assert part in line


def test_damage_is_one_line(pets):
    first, second = sorted(pets.glob("*.arrow"))
    whole = first.read_bytes()
    for content in (whole[:-8], whole[: len(whole) // 2], whole[:3], b"", b"text" * 99):
        first.write_bytes(content)
        assert refused(str(pets)).startswith(f"{first}: is no readable Arrow file (")
        with pytest.raises(OSError, match="no readable Arrow file"):
            source_at(str(pets)).read(f"{first.name}/000000000")
    first.unlink()
    second.unlink()
    line = refused(str(pets))
    assert f"{pets}: lacks {first.name}, {second.name}, which state.json names" in line


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ({"_data_files": [{"filename": "../../secret.arrow"}]}, "names files outside of its folder"),
        ({"_data_files": None}, "names no _data_files"),
        ({"_indices_data_files": [{"filename": "i.arrow"}]}, "flatten_indices"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path, state, problem):
    folder = saved(tmp_path / "x", [{"image": cells([1]), "label": [0]}], **state)
    assert problem in refused(str(folder))
    (folder / "state.json").write_text("{")
    assert "state.json: cannot be read as JSON" in refused(str(folder))
    (folder / "state.json").write_text("[]")
    assert "state.json: holds no object" in refused(str(folder))


def test_images_that_are_not_in_the_file(tmp_path):
    rows = [{"bytes": png(1), "path": None}, {"bytes": None, "path": "/far/away.png"}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    path = write_arrow(tmp_path / "x.arrow", {"image": pa.array(rows, kind), "label": [0, 1]})
    line = refused(str(path))  # as in the cache of a data set of image files
    assert line.startswith(f"{path}: has no bytes of 1 of its 2 images, only their paths or nothing; give the image")
    source = source_at(str(path))
    assert source.read("x.arrow/000000000") == png(1)
    for place, problem in {
        "x.arrow/000000001": "no bytes, only the path /far/away.png", "x.arrow/000000007": "2 rows",
        "x.arrow/one": "no number", "one": "names no .arrow",
    }.items():  # fmt: skip
        with pytest.raises(OSError, match=problem):
            source.read(place)


def test_offsets_that_lead_out_of_the_file_are_found_before_a_value_is_read(tmp_path):
    path = write_arrow(tmp_path / "x.arrow", {"image": [png(1), png(2)], "label": [0, 1]})
    content = path.read_bytes()
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, len(png(1)), len(png(1) + png(2))))
    assert content.count(offsets) == 1
    wild = b"".join(number.to_bytes(4, "little") for number in (0, 0x7FFFFF00, 0x7FFFFF01))
    path.write_bytes(content.replace(offsets, wild))
    assert "is no readable Arrow file" in refused(str(path))
