"""Which source a location means, and what a source gets without doing anything for it."""

import io
from pathlib import Path

import pytest

from hsae.datasets import Contents, ImageSource, SourceImage, decide_labels, register_source, resolved, scan, source_at
from hsae.datasets.sources.csv_listing import CsvSource
from hsae.datasets.sources.folder import FolderSource
from hsae.errors import UserError
from hsae.taxonomy import load_taxonomy


@register_source("memory")
class MemorySource(ImageSource):
    """memory://PATH,PATH,...: a file holds its path, the label is the folder of the path."""

    def list(self):
        paths = self.uri.removeprefix("memory://").split(",")
        return Contents([SourceImage(path, (path.split("/")[0],)) for path in paths if path])

    def read(self, path):
        return path.encode()


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree.csv"
    path.write_text("child,parent\ncat,animal\ndog,animal\n")
    return load_taxonomy(path)


def test_what_a_path_means(tmp_path, monkeypatch):
    (tmp_path / "list.csv").write_text("path,label\n")
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.chdir(tmp_path)
    for location, kind, root in (
        ("list.csv", CsvSource, tmp_path),
        (tmp_path / "list.csv", CsvSource, tmp_path),
        ("folder.csv", FolderSource, tmp_path / "folder.csv"),
        (f"file://{tmp_path}/list.csv", CsvSource, tmp_path),
        (f"file://localhost{tmp_path}/a%20b", FolderSource, tmp_path / "a b"),
        (f"FILE://{tmp_path}", FolderSource, tmp_path),
        ("absent.csv", FolderSource, tmp_path / "absent.csv"),
        ("a\0b", FolderSource, tmp_path / "a\0b"),
    ):
        source = source_at(location)
        assert (type(source), source.root) == (kind, str(root)), location
        assert type(source_at(source.root)) is FolderSource, "what the catalog keeps reads the same files"
    with pytest.raises(UserError, match="names the machine server"):
        source_at("file://server/images")


def test_a_scheme_without_a_source():
    with pytest.raises(
        UserError, match=r"^ftp://x: there is no image source for ftp:// \(known: a local path, arrow://, file://"
    ):
        source_at("ftp://x")
    with pytest.raises(ValueError, match="two image sources are registered for memory://"):
        register_source("memory")(MemorySource)


def test_links_of_paths_are_followed_and_uris_kept(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert resolved(tmp_path / "link") == resolved(f"file://{tmp_path}/link") == str((tmp_path / "there").resolve())
    assert resolved("memory://a/../b") == "memory://a/../b"


def test_files_are_read_as_bytes_and_as_a_stream(tmp_path):
    (tmp_path / "a.png").write_bytes(b"content")
    for source, path in ((source_at(tmp_path), "a.png"), (source_at("memory://content"), "content")):
        assert source.read(path) == b"content"
        with source.open(path) as stream:
            assert stream.seek(0, io.SEEK_END) == 7
            stream.seek(0)
            assert stream.read() == b"content"
    with pytest.raises(FileNotFoundError):
        source_at(tmp_path).read("absent.png")
    assert Path(source_at(tmp_path).locate("a.png")) == tmp_path / "a.png"


def test_a_source_that_only_lists_and_reads(tree):
    dataset = scan("memory://dog/b,cat/a", tree)
    assert dataset.listing["path"].to_pylist() == ["cat/a", "dog/b"]
    assert dataset.listing["n_bytes"].to_pylist() == [5, 5]
    assert dataset.source.root == "memory://dog/b,cat/a"
    assert [decision.label for decision in decide_labels("memory://dog/b,cat/a", tree)] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("memory://", "memory://: holds no images"),
        ("memory://cat/a", "memory://cat/a: all images are of one class"),
        ("memory://cat/a,dog/b,cat/a", "lists the image cat/a more than once"),
        ("memory://cat/a,dgo/b", "label 'dgo' of memory://cat/a,dgo/b: .*correct the label"),
    ],
)
def test_what_would_make_a_data_set_wrong(tree, uri, message):
    with pytest.raises(UserError, match=message):
        scan(uri, tree)
