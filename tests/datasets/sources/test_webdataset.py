"""Tars in the way of WebDataset: samples, labels, damage."""

import io
import json
import tarfile

import pytest
from tests.datasets.sources.test_parquet import png

from hsae.datasets import check_images, scan, source_at
from hsae.datasets.sources.packed import WebDatasetSource, tar_members
from hsae.errors import UserError
from hsae.taxonomy import load_taxonomy


def write(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def labelled(source):
    return {image.path: image.labels for image in source.list().images}


def test_labels_in_cls_json_and_folders(tmp_path):
    members = [
        ("a.png", png(1)), ("a.cls", "dog.n.01\n"),
        ("deep/b.jpg", png(2)), ("deep/b.json", json.dumps({"label": ["cat.n.01", "dog.n.01"], "who": 3})),
        ("crane.n.05/c.v2.png", png(3)), ("crane.n.05/c.txt", "a caption"), ("crane.n.05/._c.png", "AppleDouble"),
    ]  # fmt: skip
    path = write(tmp_path / "train.tar", members)
    source = source_at(str(path))
    assert isinstance(source, WebDatasetSource)
    contents = source.list()
    assert {image.path: image.labels for image in contents.images} == {
        "train.tar/a.png": ("dog.n.01",),
        "train.tar/deep/b.jpg": ("cat.n.01", "dog.n.01"),
        "train.tar/crane.n.05/c.v2.png": ("crane.n.05",),
    }
    assert contents.left_out.text() == "1 .txt, 1 hidden"
    grouped = source_at(f"tar://{path}?group=who").list().images
    assert [image.group for image in grouped] == [None, "3", None]
    dataset = scan(path, load_taxonomy())
    again = source_at(dataset.source.root)
    assert {path: again.read(path) for path in dataset.listing["path"].to_pylist()} == {
        "train.tar/a.png": png(1),
        "train.tar/crane.n.05/c.v2.png": png(3),
        "train.tar/deep/b.jpg": png(2),
    }
    assert check_images(dataset, max_pixels=1000) == []


def test_what_other_programs_put_into_tars_and_beside_them(tmp_path):
    """Thumbnails of a file server, and what macOS packs: no images, and no labels that nobody knows."""
    members = [
        ("./dog.n.01/a.png", png(1)), ("./cat.n.01/b.png", png(2)),
        ("./dog.n.01/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", png(3)), ("./dog.n.01/@eaDir/c.png/c.jpg", png(4)),
        ("__MACOSX/dog.n.01/a.png", png(5)), (".thumbnails/d.png", png(6)), ("./cat.n.01/@eaDir/e.jpg", png(7)),
    ]  # fmt: skip
    write(tmp_path / "train.tar", members)
    (tmp_path / "._train.tar").write_bytes(b"AppleDouble")
    contents = source_at(f"tar://{tmp_path}").list()
    assert [image.labels for image in contents.images] == [("dog.n.01",), ("cat.n.01",)]
    assert contents.left_out.folders == {"@eaDir": 2, "__MACOSX": 1, ".thumbnails": 1}
    assert contents.left_out.text() == "4 folders of other programs (@eaDir, .thumbnails, __MACOSX)"


def test_numbers_over_several_tars(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number:03}.tar", [("x.png", png(number)), ("x.cls", str(number % 2))])
    location = f"tar://{tmp_path}/{{000..002}}.tar"
    with pytest.raises(UserError, match=r"000\.tar, x\.png: the label is the number 0, and nothing names the classes"):
        source_at(location).list()
    (tmp_path / "classes.txt").write_text("dog.n.01\ncat.n.01\n")
    assert labelled(source_at(location)) == {
        "000.tar/x.png": ("dog.n.01",),
        "001.tar/x.png": ("cat.n.01",),
        "002.tar/x.png": ("dog.n.01",),
    }
    assert labelled(source_at(f"tar://{tmp_path}")) == labelled(source_at(location))


def refused(location):
    with pytest.raises(UserError) as caught:
        source_at(location).list()
    (line,) = str(caught.value).splitlines()
    return line


def test_numbers_and_names_in_one_set(tmp_path):
    """Whoever wrote the names counts classes otherwise, or not at all: nobody means such a mixture."""
    (tmp_path / "classes.txt").write_text("dog.n.01\ncat.n.01\n")
    write(tmp_path / "0.tar", [("a.png", png(1)), ("a.cls", "1"), ("b.png", png(2)), ("b.json", '{"label": [0, 1]}')])
    write(tmp_path / "1.tar", [("crane.n.05/c.png", png(3)), ("d.png", png(4)), ("d.cls", "dog.n.01")])
    assert refused(f"tar://{tmp_path}") == (
        f"tar://{tmp_path}: mixes 3 labels that are numbers (first: {tmp_path}/0.tar, a.png) and 2 that are names"
        f" (first: {tmp_path}/1.tar, crane.n.05/c.png); write all of them as numbers, or all as names"
    )
    (tmp_path / "classes.txt").unlink()
    line = refused(f"tar://{tmp_path}")
    assert "mixes 3 labels that are numbers" not in line  # the first number of a list is refused by itself
    assert "mixes 2 labels that are numbers" in line
    assert "a.png: the label is the number 1, and nothing names the classes" in line
    assert len(labelled(source_at(str(tmp_path / "1.tar")))) == 2


def test_a_folder_that_says_another_class_than_the_label(tmp_path):
    members = [
        ("dog.n.01/a.png", png(1)), ("dog.n.01/b.png", png(2)), ("dog.n.01/b.json", '{"label": "cat.n.01"}'),
        ("dog.n.01/a2.png", png(5)),
        ("cat.n.01/c.png", png(3)), ("cat.n.01/c.cls", "cat.n.01"),
        ("train/d.png", png(4)), ("train/d.cls", "cat.n.01"),
    ]  # fmt: skip
    path = write(tmp_path / "train.tar", members)
    assert refused(str(path)) == (
        "train.tar/dog.n.01/b.png: its label is cat.n.01, and its folder is named like another class, dog.n.01; correct"
        " one of the two, or rename the folder if it is no class"
    )
    write(path, [member for member in members if "/a" not in member[0]])  # now nothing says that dogs are a class
    assert set(labelled(source_at(str(path))).values()) == {("cat.n.01",)}
    asked = write(tmp_path / "asked.tar", [*members[:3], ("dog.n.01/a.json", '{"label": "dog.n.01"}')])
    assert labelled(source_at(f"tar://{asked}?label=label")) == {
        "asked.tar/dog.n.01/a.png": ("dog.n.01",),
        "asked.tar/dog.n.01/b.png": ("cat.n.01",),
    }


def test_a_folder_of_a_split_that_has_the_name_of_a_class(tmp_path):
    """`train` is a class of CIFAR-100, COCO and VOC; most images of the folder `train` are of others."""
    labels = ["dog.n.01", "train", "train", "cat.n.01", "dog.n.01"]
    members = [
        member
        for number, label in enumerate(labels)
        for member in ((f"train/{number}.png", png(number)), (f"train/{number}.cls", label))
    ]
    members += [("val/5.png", png(5)), ("val/5.cls", "dog.n.01"), ("val/6.png", png(6)), ("val/6.cls", "train")]
    path = write(tmp_path / "x.tar", members)
    assert list(labelled(source_at(str(path))).values()) == [(label,) for label in [*labels, "dog.n.01", "train"]]


@pytest.mark.parametrize("n_unlabelled", [1, 2, 5])
def test_a_folder_and_labels_that_name_one_class_by_two_names(tmp_path, n_unlabelled):
    """Labels of the same synset become one class, as ever; a wrong label among them is still found."""
    plain = [(f"{name}/{number}.png", png(10 * number + start))
             for start, name in enumerate(("tench", "goldfish")) for number in range(n_unlabelled)]  # fmt: skip
    write(tmp_path / "plain.tar", plain)
    written = [
        ("tench/a.png", png(100)), ("tench/a.cls", "n01440764"),
        ("tench/b.png", png(101)), ("tench/b.cls", "n01440764"),
        ("goldfish/c.png", png(102)), ("goldfish/c.cls", "n01443537"),
        ("goldfish/e.png", png(104)), ("goldfish/e.cls", "n01443537"),
    ]  # fmt: skip
    write(tmp_path / "written.tar", written)
    dataset = scan(f"tar://{tmp_path}", load_taxonomy())
    assert dataset.merged == {"n01440764": ("n01440764", "tench"), "n01443537": ("goldfish", "n01443537")}
    assert dataset.n_images == 2 * n_unlabelled + 4
    if n_unlabelled > 3:
        write(tmp_path / "written.tar", [*written, ("tench/d.png", png(103)), ("tench/d.cls", "n01443537")])
        assert refused(f"tar://{tmp_path}") == (
            "written.tar/tench/d.png: its label is n01443537, and its folder is named like another class, tench;"
            " correct one of the two, or rename the folder if it is no class"
        )


def test_classes_whose_names_are_numbers_beside_others(tmp_path):
    """As of letters and digits: a file of class names says that class 1 is called 1."""
    path = write(tmp_path / "x.tar", [("a/x.png", png(1)), ("1/y.png", png(2)), ("z.png", png(3)), ("z.cls", "0")])
    assert "mixes 2 labels that are numbers" in refused(str(path))
    (tmp_path / "classes.txt").write_text("0\n1\na\n")
    assert list(labelled(source_at(str(path))).values()) == [("a",), ("1",), ("0",)]
    write(path, [("a/x.png", png(1)), ("1/y.png", png(2)), ("z.png", png(3)), ("z.cls", "2")])
    assert "mixes 1 labels that are numbers" in refused(str(path))


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("a.png", b"x"), ("a.png", b"y")], "holds the member a.png twice"),
        ([("a.png", b"x"), ("a.jpg", b"y"), ("a.cls", "dog")], "sample './a' has the images a.png and a.jpg"),
        ([("a.png", b"x")], "a.png: has no label; put it into a member of the same name"),
        ([("a.png", b"x"), ("a.json", "{")], "a.png: its .json cannot be read"),
        ([("a.png", b"x"), ("a.json", "[1]")], "a.png: its .json holds no object"),
        ([("a.png", b"x"), ("a.cls", b"\xff")], "the label in .cls is not UTF-8"),
        ([("n01440764.tar", b"x")], "holds no image; it holds tars: unpack it first"),
        ([], "holds no image"),
    ],
)
def test_tars_that_cannot_be_used(tmp_path, members, problem):
    with pytest.raises(UserError, match=problem):
        source_at(str(write(tmp_path / "x.tar", members))).list()


def test_a_damaged_tar_names_the_last_member_that_was_whole(tmp_path):
    path = write(tmp_path / "x.tar", [(f"{number}.png", png(number)) for number in range(4)])
    whole = path.read_bytes()
    path.write_bytes(whole[: 5 * 512 + 100])
    with pytest.raises(UserError, match=r"x\.tar: cannot be read as a tar after the member 2\.png"):
        source_at(str(path)).list()
    path.write_bytes(whole[: 4 * 512])
    with pytest.raises(UserError, match="after the member 1.png .the next header is damaged or missing"):
        source_at(str(path)).list()
    broken = bytearray(whole)
    broken[2 * 512 : 2 * 512 + 100] = b"\xff" * 100
    path.write_bytes(broken)
    with pytest.raises(UserError, match=r"cannot be read as a tar after the member 0\.png"):
        source_at(str(path)).list()
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.add(path, "a.png")
    with pytest.raises(UserError, match="a compressed tar must be decompressed first"):
        source_at(str(tmp_path / "packed.tar")).list()


def test_an_image_that_is_gone_is_an_error_of_the_image(tmp_path):
    path = write(tmp_path / "x.tar", [("dog.n.01/a.png", png(1))])
    source = source_at(str(path))
    with pytest.raises(OSError, match=r"no member 'b\.png'"):
        source.read("x.tar/b.png")
    path.write_bytes(b"")
    with pytest.raises(OSError, match="cannot be read as a tar|ends inside"):
        source_at(str(path)).read("x.tar/dog.n.01/a.png")


def test_more_tars_than_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_members, "_REMEMBERED", 1)
    for tar in range(4):
        write(tmp_path / f"{tar}.tar", [(f"dog.n.01/{number}.png", png(10 * tar + number)) for number in range(3)])
    source = source_at(f"tar://{tmp_path}")
    paths = [image.path for image in source.list().images]
    # In an order in which a tar was forgotten when it is asked for again.
    for path in sorted(paths, key=lambda path: path[::-1]):
        assert source.read(path) == png(10 * int(path[0]) + int(path[-5]))
    write(tmp_path / "0.tar", [("dog.n.01/x.png", png(90)), ("dog.n.01/0.png", png(91))])
    assert source.read("0.tar/dog.n.01/0.png") == png(91), "another version of a tar is looked through anew"
