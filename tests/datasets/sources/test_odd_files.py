"""Packed files that somebody made by hand, or to do harm: one line each, and nothing that hangs."""

import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.datasets.sources.remote.test_http_tars import refused, tar
from tests.datasets.sources.remote.web_server import serving
from tests.datasets.sources.test_parquet import cells, png

from hsae.datasets import scan, source_at
from hsae.errors import UserError
from hsae.taxonomy import load_taxonomy

PNG = png(1)
BLOCK = 512


def header(name, size, kind=tarfile.REGTYPE):
    """A header with any size, also below 0, which tarfile itself does not write."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = size.to_bytes(12, "big", signed=True) if size < 0 else b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def made(*blocks):
    return b"".join(block.ljust(-(-len(block) // BLOCK) * BLOCK, b"\0") for block in blocks) + bytes(2 * BLOCK)


TARS = {
    "no image": (bytes(20 * BLOCK), "holds no image"),
    "no bytes": (b"", "empty"),
    "a size below 0": (made(header("dog.n.01/a.png", -BLOCK), PNG), "has less than no bytes"),
    "a small size below 0": (made(header("dog.n.01/a.png", -5), PNG), "has less than no bytes"),
    "sparse": (
        made(header("dog.n.01/a.png", len(PNG), tarfile.GNUTYPE_SPARSE), PNG),
        "the member dog.n.01/a.png is sparse: make the tar without --sparse",
    ),
    "a line break in a name": (tar([("a\nb.png", PNG)]), r"a\nb.png: has no label"),
    "a number of many digits": (tar([("a.png", PNG), ("a.cls", b"1" * 5000)]), "has 5,000 characters, which is no"),
    "a label of many characters": (tar([("a.png", PNG), ("a.cls", b"dog " * 5000)]), "has 19,999 characters, which is"),
    "a deep description": (tar([("a.png", PNG), ("a.json", b"[" * 200_000)]), "its .json cannot be read"),
    "a float": (tar([("a.png", PNG), ("a.json", b'{"label": 1.5}')]), "label 1.5 is neither text nor a whole number"),
    "an object": (tar([("a.png", PNG), ("a.json", b'{"label": {"a": 1}}')]), "label {'a': 1} is neither text nor"),
    "no label": (tar([("a.png", PNG), ("a.json", b'{"label": " "}')]), "has no label"),
}


@pytest.mark.parametrize("where", ["disk", "server"])
@pytest.mark.parametrize("name", TARS)
def test_a_tar_that_cannot_be_used_is_one_short_line(tmp_path, where, name):
    content, problem = TARS[name]
    if where == "disk":
        (tmp_path / "x.tar").write_bytes(content)
        line = refused(str(tmp_path / "x.tar"))
    else:
        with serving() as server:
            server.files["/x.tar"] = content
            line = refused(f"{server.url}/x.tar")
    assert problem in line
    assert len(line) < 400


def test_a_group_that_is_no_value(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar([("dog.n.01/a.png", PNG), ("dog.n.01/a.json", b'{"who": ["a"]}')]))
    assert "the group ['a'] is no text and no number" in refused(f"tar://{tmp_path}/x.tar?group=who")


def test_names_of_members_are_names_and_no_paths(tmp_path):
    """Nothing is unpacked: `..` leads nowhere."""
    names = ("../../dog.n.01/1.png", "/cat.n.01/2.png", "a b/\u732b cat.n.01/3.png", "./dog.n.01/4.png")
    contents = {name: png(number) for number, name in enumerate(names)}
    (tmp_path / "x.tar").write_bytes(tar(contents.items()))
    source = source_at(str(tmp_path / "x.tar"))
    images = source.list().images
    assert [image.labels for image in images] == [("dog.n.01",), ("cat.n.01",), ("\u732b cat.n.01",), ("dog.n.01",)]
    assert {image.path: source.read(image.path) for image in images} == {
        f"x.tar/{name}": content for name, content in contents.items()
    }


def test_a_tar_with_an_upper_case_suffix(tmp_path):
    content = tar([("dog.n.01/1.png", png(1)), ("cat.n.01/2.png", png(2))])
    (tmp_path / "X.TAR").write_bytes(content)
    with serving() as server:
        server.files["/X.TAR"] = content
        tree = load_taxonomy()
        there, here = (scan(location, tree) for location in (f"{server.url}/X.TAR", str(tmp_path / "X.TAR")))
        assert there.fingerprint == here.fingerprint
        assert source_at(there.source.root).read("X.TAR/cat.n.01/2.png") == png(2)


def test_ranges_that_stand_for_very_many_files(tmp_path):
    for pattern in ("{0..99999}-{0..99999}.tar", "{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}.tar"):
        assert "more than 100,000" in refused(f"tar://{tmp_path}/{pattern}")
        assert "more than 100,000" in refused(f"http://127.0.0.1:1/{pattern}")
    assert "is no range of at most 100,000 rising numbers" in refused(f"tar://{tmp_path}/{{5..1}}.tar")


def as_arrow(table, path):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


WRITERS = {"parquet": pq.write_table, "arrow": as_arrow}
LABELS = pa.array(["dog.n.01", "cat.n.01"])
TABLES = {
    "floats": (["image", "label"], [pa.array([1.0, 2.5])], "", "the label 1.0 is neither text nor a whole number"),
    "no numbers": (["image", "label"], [pa.array([float("nan"), None])], "", "the label nan is neither text nor"),
    "images for labels": (["image", "label"], [LABELS], "?label=image", "is neither text nor a whole number"),
    "images for groups": (["image", "label"], [LABELS], "?group=image", "is no text and no number"),
    "two columns": (["image", "label", "label"], [LABELS, LABELS], "", "has several columns called label; rename"),
    "two labels for images": (["image", "label", "label"], [LABELS, LABELS], "?image=label", "holds no images but"),
    "a line break": (["image", "la\nbel"], [LABELS], "", r"all: image, la\nbel"),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", TABLES)
def test_columns_that_cannot_be_used_are_one_short_line(tmp_path, kind, name):
    names, columns, query, problem = TABLES[name]
    path = tmp_path / f"x.{kind}"
    WRITERS[kind](pa.Table.from_arrays([pa.array(cells([1, 2])), *columns], names=names), path)
    line = refused(f"{kind}://{path}{query}")
    assert problem in line
    assert len(line) < 600


@pytest.mark.parametrize("kind", WRITERS)
def test_a_table_without_rows(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    WRITERS[kind](pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.string())}), path)
    with pytest.raises(UserError, match=r"^\S+: holds no images$"):
        scan(f"{kind}://{path}", load_taxonomy())


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_is_cut_anywhere_is_one_line(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    WRITERS[kind](pa.table({"image": pa.array(cells([1, 2])), "label": LABELS}), path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 61):
        path.write_bytes(whole[:end])
        assert f"is no readable {kind.capitalize()} file" in refused(f"{kind}://{path}")
