"""Tars on a web server: the same data set as from a disk, few requests, and one line for everything that is wrong."""

import hashlib
import io
import os
import tarfile

import pytest
from tests.datasets.sources.remote.web_server import serving
from tests.datasets.sources.test_parquet import png
from tests.datasets.sources.test_webdataset import write

from hsae.datasets import check_images, scan, source_at
from hsae.datasets.sources.packed import tar_images
from hsae.datasets.sources.packed.tar_members import TarIndexes
from hsae.datasets.sources.remote import remote_file
from hsae.datasets.sources.remote.remote_file import Windows
from hsae.errors import ServiceError, UserError
from hsae.taxonomy import load_taxonomy


def tar(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as written:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            written.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def samples(start, n=6):
    numbers = range(start, start + n)
    return [
        part
        for number in numbers
        for part in ((f"{number:03}.png", png(number)), (f"{number:03}.cls", b"%d" % (number % 2)))
    ]


@pytest.fixture
def server():
    with serving() as running:
        for number in range(3):
            running.files[f"/data/train-{number:03}.tar"] = tar(samples(10 * number))
        running.files["/data/classes.txt"] = b"dog.n.01\ncat.n.01\n"
        yield running


def listed(location):
    source = source_at(location)
    source.check()
    return source.list()


def refused(location, kind=UserError):
    with pytest.raises(kind) as caught:
        listed(location)
    (line,) = str(caught.value).splitlines()
    return line


def test_the_same_data_set_as_from_a_disk(server, tmp_path):
    for path, content in server.files.items():
        (tmp_path / path.rpartition("/")[2]).write_bytes(content)
    tree = load_taxonomy()
    dataset = scan(f"{server.url}/data/train-{{000..002}}.tar", tree)
    assert dataset.source.root == f"{server.url}/data/train-{{000..002}}.tar"
    local = scan(f"tar://{tmp_path}/train-{{000..002}}.tar", tree)
    assert dataset.fingerprint == local.fingerprint
    assert dataset.listing == local.listing
    again = source_at(dataset.source.root)
    for path in ("train-001.tar/012.png", "train-000.tar/005.png"):
        assert again.read(path) == local.source.read(path)
    assert again.locate("train-001.tar/012.png") == f"{server.url}/data/train-001.tar/012.png"
    assert check_images(dataset, max_pixels=1000) == []
    assert again.version("train-001.tar/012.png") != again.version("train-000.tar/005.png")


def test_a_tar_is_streamed_and_images_that_follow_each_other_are_fetched_together(server, monkeypatch):
    path = "/data/big.tar"
    server.files[path] = tar([(f"dog.n.01/{number:03}.png", os.urandom(20_000)) for number in range(200)])
    source = source_at(f"{server.url}{path}")
    paths = [image.path for image in source.list().images]
    assert source.list() is source.list()
    assert len(server.asked) <= 5, "no request for each member"
    assert server.sent_bytes(path) < 1.1 * len(server.files[path])
    digests = {image.path: image.digest for image in source.list().images}
    server.asked.clear()
    # A worker, which has not listed the tars, looks through them while it reads: both are the same bytes.
    monkeypatch.setattr(tar_images, "_indexes", TarIndexes())
    worker = source_at(f"{server.url}{path}")
    contents = [worker.read(path) for path in paths]
    assert {
        path: (hashlib.sha256(it).hexdigest(), len(it)) for path, it in zip(paths, contents, strict=True)
    } == digests
    assert len(server.asked) <= 5
    assert server.sent_bytes(path) < 1.1 * len(server.files[path])
    server.asked.clear()
    assert [source_at(f"{server.url}{path}").read(paths[number]) for number in (190, 3)] == [contents[190], contents[3]]
    # A few images from anywhere cost no more than themselves; where they are is known from above.
    assert server.sent_bytes(path) < 50_000


def test_a_connection_that_breaks_is_made_anew(server):
    server.breaks[:] = [1, 700, 1500, 1, 1]
    source = source_at(f"{server.url}/data/train-000.tar")
    images = source.list().images
    assert [source.read(image.path) for image in images] == [png(number) for number in range(6)]
    assert not server.breaks


def test_settings_and_names_in_urls(server):
    server.files["/a%20b/x%2By.tar"] = tar([("1.png", png(1)), ("1.json", b'{"breed": "dog.n.01", "who": "rex"}')])
    source = source_at(f"{server.url}/a%20b/x%2By.tar?label=breed&group=who")
    (image,) = source.list().images
    assert (image.path, image.labels, image.group) == ("x+y.tar/1.png", ("dog.n.01",), "rex")
    assert source_at(source.root).read(image.path) == png(1)
    server.files["/data/names.txt"] = b"crane.n.05\ncat.n.01\n"
    named = source_at(f"{server.url}/data/train-000.tar?classes=names.txt").list().images
    assert named[0].labels == ("crane.n.05",)
    assert "none.txt: there is no such file of class names" in refused(
        f"{server.url}/data/train-000.tar?classes=none.txt"
    )
    del server.files["/data/classes.txt"]
    assert "nothing names the classes" in refused(f"{server.url}/data/train-000.tar")


def test_redirects_lead_to_web_servers_alone(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving() as other:
        other.files["/there.tar"] = server.files["/data/train-000.tar"]
        for path, there in {
            "/moved.tar": f"{other.url}/there.tar?signature=abcdef", "/file.tar": "file:///etc/passwd",
            "/round.tar": "/round.tar", "/nowhere.tar": "",
        }.items():  # fmt: skip
            server.redirects[path] = there
        source = source_at(f"{server.url}/moved.tar")
        assert source.read("moved.tar/001.png") == png(1)
        assert {authorization for _, _, authorization in other.asked} == {None}, "the password of another server"
        assert {authorization for _, _, authorization in server.asked} == {"Basic bWU6c2VjcmV0"}
        assert "redirects to file, which is not followed" in refused(f"{server.url}/file.tar")
        assert "redirects to nowhere" in refused(f"{server.url}/nowhere.tar")
        assert "redirects more than 5 times" in refused(f"{server.url}/round.tar")
        other.statuses["/there.tar"] = 503
        line = refused(f"{server.url}/moved.tar", ServiceError)
        assert "answers with HTTP 503" in line
        assert "signature" not in line


def test_a_password_is_taken_from_netrc_and_never_shown(server, tmp_path, monkeypatch):
    server.login = "me:pass-word-1"
    url = f"{server.url}/data/train-000.tar"
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert "the server asks for a password: write it into ~/.netrc" in refused(url)
    for wrong in (
        url.replace("://", "://me:pass-word-1@"),
        "https://me:pass/word-1@host/x.tar",
        "ftp://me:pass-word-1@h",
    ):
        line = refused(wrong)
        assert "word-1" not in line
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password pass-word-1\n")
    assert len(listed(url).images) == 6
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me pass-word-1 x\n")
    line = refused(url)
    assert f"{tmp_path / 'netrc'}: cannot be read (line 1)" in line
    assert "word-1" not in line


def test_all_that_is_wrong_with_several_tars_is_one_line(server):
    whole = server.files["/data/train-000.tar"]
    server.files["/data/train-000.tar"] = whole[: len(whole) // 2 // 512 * 512 + 100]
    server.files["/data/train-001.tar"] = tar([("a.png", png(1)), ("b.png", png(2))])
    line = refused(f"{server.url}/data/train-{{000..002}}.tar")
    for part in (
        "train-000.tar: cannot be read as a tar after the member",
        "a.png: has no label",
        "b.png: has no label",
    ):
        assert part in line
    line = refused(f"{server.url}/data/train-{{001..009}}.tar")
    assert "train-009.tar: cannot be read (there is no such file on the server)" in line
    with pytest.raises(UserError, match=r"train-003\.tar: cannot .*; and 2 more like these"):
        source_at(f"{server.url}/data/train-{{001..009}}.tar").list()


def test_servers_that_cannot_be_used(server):
    url = f"{server.url}/data/train-000.tar"
    server.statuses["/data/train-000.tar"] = 403
    assert f"{url}: cannot be read (the server refuses access)" in refused(url)
    server.statuses["/data/train-000.tar"] = 418
    assert "answers with HTTP 418" in refused(url)
    server.statuses.clear()
    server.ranges = False
    assert "gives no ranges of bytes; download the tars" in refused(url)
    server.ranges = True
    server.files["/data/train-000.tar"] = b""
    assert "empty or shorter" in refused(url)
    for location, problem in {
        f"{server.url}/data/train-*.tar": "a web server lists no files",
        f"{server.url}/data/": "it is no .tar; give tars",
        f"{server.url}/data/x.tar?token=abc": f"{server.url}/data/x.tar: there is no setting token; known: label",
        "http:///x.tar": "names no server",
        "http://127.0.0.1:1/x.tar": "the web server 127.0.0.1:1 cannot be reached (connection refused)",
    }.items():
        assert problem in refused(location)


def test_a_tar_that_is_replaced_or_lies_about_its_headers(server, tmp_path, monkeypatch):
    url = f"{server.url}/data/train-000.tar"
    source = source_at(url)
    images = source.list().images
    server.files["/data/train-000.tar"] = tar(samples(50))
    monkeypatch.setattr(remote_file, "windows", Windows())  # what was received before is no longer in memory
    with pytest.raises(OSError, match="was replaced while it was read"):
        source.read(images[0].path)
    with pytest.raises(OSError, match=r"no member '000\.png'"):
        source_at(url).read(images[0].path)
    del server.files["/data/train-000.tar"]
    with pytest.raises(FileNotFoundError, match="no such file on the server"):
        source_at(url).read(images[0].path)
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    server.files["/data/huge.tar"] = header.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "huge.tar").write_bytes(server.files["/data/huge.tar"])
    for location in (str(tmp_path / "huge.tar"), f"{server.url}/data/huge.tar"):
        assert "a header says that it has 1,099,511,627,776 bytes" in refused(location)


def test_mistakes_of_local_tars_together(tmp_path):
    for name in ("0.tar", "1.tar"):
        write(tmp_path / name, [("a.png", png(1))])
    line = refused(f"tar://{tmp_path}")
    assert f"{tmp_path}/0.tar, a.png: has no label" in line
    assert f"{tmp_path}/1.tar, a.png: has no label" in line
