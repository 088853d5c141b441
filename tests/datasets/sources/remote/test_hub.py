"""Data sets of the hub: from a small hub on this machine, from its cache, and what a refusal says."""

import hashlib
import json
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from tests.datasets.sources.remote.test_http_tars import refused
from tests.datasets.sources.remote.web_server import serving
from tests.datasets.sources.test_parquet import NAMES, cells, png

from hsae.datasets import check_images, scan, source_at
from hsae.datasets.sources.remote.hub_splits import part_of
from hsae.errors import ServiceError, UserError
from hsae.pipeline.submission import dataset_choice
from hsae.taxonomy import load_taxonomy

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONVERTED = "89abcdef0123456789abcdef0123456789abcdef"


def parquet(numbers, names=NAMES):
    table = pa.table({"image": cells(numbers), "label": [number % 2 for number in numbers]})
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


class Hub:
    """The endpoints of the hub that a data set needs: what a revision holds, and its files."""

    def __init__(self, server):
        self.server = server
        self.repositories = {}

    def add(self, name, files, commit=COMMIT, revision=None):
        """A repository; a revision other than the main branch has files of its own."""
        siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
        about = json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode()
        self.server.answers[f"/api/datasets/{name}" + (f"/revision/{revision}" if revision else "")] = self.says(about)
        self.server.answers[f"/api/datasets/{name}/revision/{commit}"] = self.says(about)
        for file, content in files.items():
            self.server.answers[f"/datasets/{name}/resolve/{commit}/{file}"] = self.gives(content, commit)

    def refuse(self, path, status, code):
        self.server.answers[path] = lambda request: (status, {"X-Error-Code": code}, b"")

    def says(self, about):
        return lambda request: (200, {"Content-Type": "application/json"}, about)

    def gives(self, content, commit):
        etag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Content-Length": str(len(content))}
        return lambda request: (200, headers, content)

    @property
    def asked(self):
        return [unquote(path.partition("?")[0]) for path, _, _ in self.server.asked]


def point_to(endpoint, monkeypatch, cache):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HSAE_HOME", str(tmp_path / "home"))
    with serving() as server:
        point_to(server.url, monkeypatch, tmp_path / "cache")
        hub = Hub(server)
        hub.add(
            "me/pets",
            {
                "README.md": b"pets",
                "data/train-00000-of-00002.parquet": parquet(range(4)),
                "data/train-00001-of-00002.parquet": parquet(range(4, 6)),
                "data/test-00000-of-00001.parquet": parquet([8, 9]),
            },
        )
        yield hub


def test_a_split_from_registration_to_another_machine(hub, monkeypatch, tmp_path):
    dataset = scan("hf:me/pets:train", load_taxonomy())
    paths = dataset.listing["path"].to_pylist()
    assert paths[0] == "data/train-00000-of-00002.parquet/000000000"
    assert len(paths) == 6
    assert dataset.class_names == {"n02084071": "dog.n.01", "n02121620": "cat.n.01"}
    assert dataset.source.root == f"hf:me/pets:train?revision={COMMIT}"
    assert not [path for path in hub.asked if "test-0" in path or "README" in path], "what is not needed stays there"
    assert check_images(dataset, max_pixels=1000) == []
    # Another machine asks for the file that it needs alone.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    hub.server.asked.clear()
    assert source_at(dataset.source.root).read(paths[5]) == png(5)
    assert set(hub.asked) == {f"/datasets/me/pets/resolve/{COMMIT}/data/train-00001-of-00002.parquet"}
    # Offline there is what is in the cache, and no less than all of it.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert source_at(dataset.source.root).read(paths[5]) == png(5)
    assert "lacks 1 of its files, such as number 0" in refused(dataset.source.root)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert scan(dataset.source.root, load_taxonomy()).fingerprint == dataset.fingerprint


def test_which_split_and_which_subset(hub):
    line = refused("hf:me/pets")
    assert line == "hf:me/pets: has the splits test, train; name one: hf:me/pets:test"
    assert refused("hf:me/pets:val") == "hf:me/pets: has no split val; it has test, train"
    files = {f"{subset}/{split}-00000-of-00001.parquet": parquet([1, 2]) for subset in "ab" for split in ("x", "y")}
    hub.add("me/two", files)
    line = refused("hf:me/two")
    assert "has the subsets a, b; name one: ?subset=a" in line
    assert "has the splits x, y; name one: hf:me/two:x" in line
    (first, _) = source_at("hf://me/two:y?subset=b").list().images
    assert first.path == "b/y-00000-of-00001.parquet/000000000"
    assert "has no subset c; it has a, b" in refused("hf:me/two:x?subset=c")


@pytest.mark.parametrize(
    ("name", "subset", "split"),
    [
        ("data/train-00000-of-00004.parquet", "default", "train"),
        ("data/train-00000-of-00004-0123456789abcdef.parquet", "default", "train"),
        ("test.parquet", "default", "test"),
        ("large/partial-train/0007.parquet", "large", "partial-train"),
        ("default/train/0000.parquet", "default", "train"),
        ("a/b/val-00000-of-00001.parquet", "a/b", "val"),
    ],
)
def test_names_of_files(name, subset, split):
    assert part_of(name) == (subset, split)


def test_a_repository_without_parquet_is_read_from_the_copy_of_the_hub(hub):
    hub.add("me/folders", {"train/dog/1.png": png(1)})
    hub.refuse("/api/datasets/me/folders/revision/refs%2Fconvert%2Fparquet", 404, "RevisionNotFound")
    assert "has no .parquet files; download it (hf download" in refused("hf:me/folders:train")
    converted = {"default/train/0000.parquet": parquet([1, 2])}
    hub.add("me/folders", converted, CONVERTED, "refs%2Fconvert%2Fparquet")
    source = source_at("hf:me/folders")
    assert [image.labels for image in source.list().images] == [("cat.n.01",), ("dog.n.01",)]
    assert source.root == f"hf:me/folders?revision={CONVERTED}"
    assert source_at(source.root).read("default/train/0000.parquet/000000001") == png(2)


def test_refusals_are_one_line(hub, monkeypatch):
    hub.refuse("/api/datasets/me/unknown", 401, "RepoNotFound")
    assert f"hf:me/unknown: there is no such data set on the hub {hub.server.url}; correct" in refused("hf:me/unknown")
    hub.refuse(f"/datasets/me/pets/resolve/{COMMIT}/data/test-00000-of-00001.parquet", 403, "GatedRepo")
    line = refused("hf:me/pets:test")
    assert f"hf:me/pets: is gated: ask for access at {hub.server.url}/datasets/me/pets, then log in with" in line
    hub.refuse("/api/datasets/me/pets/revision/v9", 404, "RevisionNotFound")
    assert refused("hf:me/pets:test?revision=v9") == "hf:me/pets: has no revision v9; correct it"
    hub.server.statuses["/api/datasets/me/pets"] = 500
    del hub.server.answers["/api/datasets/me/pets"]
    assert "cannot be fetched from the hub" in refused("hf:me/pets:train", ServiceError)
    for location in ("hf:pets", "hf:me/pets/more", "hf:me/pets:tr ain", "hf:"):
        assert "is no data set of the hub; write hf:owner/name" in refused(location)
    assert "there is no setting splt" in refused("hf:me/pets?splt=train")
    point_to("http://127.0.0.1:9", monkeypatch, constants.HF_HUB_CACHE)
    assert "the hub http://127.0.0.1:9 cannot be reached" in refused("hf:me/never:train", ServiceError)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set; unset it, or copy" in refused("hf:me/never:train", ServiceError)


def test_columns_class_names_and_room(hub, monkeypatch):
    table = pa.table({"picture": ["no image"], "kind": [0]})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    hub.add("me/odd", {"train.parquet": sink.getvalue().to_pybytes()})
    line = refused("hf:me/odd")
    assert "no column of bytes among picture, kind; name the images' column: hf:me/odd?image=NAME" in line
    assert "no column label" in line
    plain = {"data/train.parquet": parquet([0, 1], names=[]), "names.txt": b"crane.n.05\ncat.n.01\n"}
    hub.add("me/plain", plain)
    source = source_at("hf:me/plain?label=label&classes=names.txt")
    assert [image.labels for image in source.list().images] == [("crane.n.05",), ("cat.n.01",)]
    assert "hf:me/plain/none.txt: there is no such file" in refused("hf:me/plain?classes=none.txt")
    siblings = [{"rfilename": "train.parquet", "size": 1 << 60}]
    about = json.dumps({"id": "me/vast", "sha": COMMIT, "siblings": siblings}).encode()
    hub.server.answers["/api/datasets/me/vast"] = hub.says(about)
    assert "1 files of 1152921504.6 GB are to be downloaded, and" in refused("hf:me/vast")


def test_its_own_name(monkeypatch):
    own = dataset_choice._own_name
    assert [own(uri) for uri in ("hf:me/pets", "hf:me/pets:train?subset=a", "hf://me/pets:x")] == ["pets"] * 3
    with pytest.raises(UserError):
        source_at("hf:me")
