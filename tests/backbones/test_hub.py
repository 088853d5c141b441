"""Models of the hub: from its cache without a connection, and from a small hub on this machine."""

import hashlib
import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.errors import ServiceError, UserError

from .conftest import image_processor, new_model

CPU = torch.device("cpu")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def refusal(action: Callable[[], object], kind: type[UserError] = UserError) -> str:
    with pytest.raises(UserError) as error:
        action()
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def cache(model_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A hub cache that holds one model's main branch, as hf_hub_download lays it out."""
    repository = tmp_path / "hub" / "models--somebody--tiny"
    shutil.copytree(model_folder("dinov2"), repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return tmp_path / "hub"


def test_offline_from_the_cache(cache: Path, model_folder: Callable[[str], Path]) -> None:
    spec = inspect_backbone("somebody/tiny", cache_dir=cache)
    local = inspect_backbone(str(model_folder("dinov2")))
    assert spec == local.model_copy(update={"name": "somebody/tiny", "revision": COMMIT})
    assert inspect_backbone("somebody/tiny", revision=COMMIT, cache_dir=cache) == spec
    backbone = Backbone.load(spec, layers=[1], device=CPU, cache_dir=cache)
    pixel_values = torch.rand(2, 3, 32, 32)
    expected = Backbone.load(local, layers=[1], device=CPU).activations(pixel_values, "cls")
    assert torch.equal(backbone.activations(pixel_values, "cls")[1], expected[1])


def test_random_weights_need_no_weights_file(cache: Path, model_folder: Callable[[str], Path]) -> None:
    (cache / "models--somebody--tiny" / "snapshots" / COMMIT / "model.safetensors").unlink()
    spec = inspect_backbone("somebody/tiny", cache_dir=cache, random_seed=3)
    assert spec.name == "somebody/tiny (random init, seed 3)"
    assert spec.random_init is not None
    assert (spec.random_init.files, spec.random_init.files_revision) == ("somebody/tiny", COMMIT)
    local = inspect_backbone(str(model_folder("dinov2")), random_seed=3)
    assert spec.revision == local.revision  # where the files lie does not matter
    backbone = Backbone.load(spec, layers=[1], device=CPU, cache_dir=cache)
    pixel_values = torch.rand(2, 3, 32, 32)
    expected = Backbone.load(local, layers=[1], device=CPU).activations(pixel_values, "cls")
    assert torch.equal(backbone.activations(pixel_values, "cls")[1], expected[1])


def test_offline_and_not_in_the_cache(cache: Path) -> None:
    line = refusal(lambda: inspect_backbone("somebody/other", cache_dir=cache), ServiceError)
    assert f"somebody/other is no folder, and its config.json is not in the hub cache {cache}" in line
    assert "HF_HUB_OFFLINE is set" in line
    line = refusal(lambda: inspect_backbone("somebody/tiny", revision="v2", cache_dir=cache), ServiceError)
    assert "at revision v2" in line
    spec = inspect_backbone("somebody/tiny", cache_dir=cache)
    (cache / "models--somebody--tiny" / "snapshots" / COMMIT / "model.safetensors").unlink()
    line = refusal(lambda: Backbone.load(spec, layers=[0], device=CPU, cache_dir=cache), ServiceError)
    assert "model.safetensors" in line


@pytest.mark.parametrize("name", ["not a name", "two//slashes", "-", ""])
def test_what_is_no_name(name: str, tmp_path: Path) -> None:
    refusal(lambda: inspect_backbone(name, cache_dir=tmp_path))


class Hub(ThreadingHTTPServer):
    """Serves files of repositories, and the hub's refusals."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folders: dict[str, Path] = {}
        self.requests: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def answer(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        found = re.fullmatch(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", self.path)
        if found is None or found["name"] == "somebody/unknown":
            return self.refuse(401, "RepoNotFound")
        if found["name"] == "somebody/gated":
            return self.refuse(403, "GatedRepo")
        if found["name"] == "somebody/broken":
            return self.refuse(418, "Teapot")
        if found["revision"] not in ("main", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        path = self.server.folders[found["name"]] / found["file"]
        if not path.is_file():
            return self.refuse(404, "EntryNotFound")
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        return None

    do_GET = do_HEAD = answer  # noqa: N815

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = huggingface_hub.constants
    template = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    server.folders["somebody/tiny"] = model_folder("dinov2")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    point_to(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_inspecting_fetches_no_weights_and_loading_fetches_them_once(hub: Hub, tmp_path: Path) -> None:
    spec = inspect_backbone("somebody/tiny", cache_dir=tmp_path)
    assert spec.revision == COMMIT
    assert not [request for request in hub.requests if "safetensors" in request]
    for _ in range(2):
        Backbone.load(spec, layers=[0], device=CPU, cache_dir=tmp_path)
    fetched = [request for request in hub.requests if request.startswith("GET") and "safetensors" in request]
    assert fetched == [f"GET /somebody/tiny/resolve/{COMMIT}/model.safetensors"]


def test_weights_in_several_files(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    new_model("dinov2").save_pretrained(folder, max_shard_size="20KB")
    image_processor("BitImageProcessorPil").save_pretrained(folder)
    hub.folders["somebody/parts"] = folder
    spec = inspect_backbone("somebody/parts", cache_dir=tmp_path / "hub")
    Backbone.load(spec, layers=[3], device=CPU, cache_dir=tmp_path / "hub")


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("somebody/unknown", None, "somebody/unknown is neither a folder nor a model on the hub"),
        ("somebody/gated", None, "somebody/gated is a gated model: ask for access at http.*hf auth login"),
        ("somebody/tiny", "v9", "somebody/tiny has no revision v9"),
    ],
)
def test_refusals(hub: Hub, tmp_path: Path, name: str, revision: str | None, message: str) -> None:
    line = refusal(lambda: inspect_backbone(name, revision=revision, cache_dir=tmp_path))
    assert re.search(message, line)


def test_repositories_that_lack_something(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "lacking"
    folder.mkdir()
    hub.folders["somebody/lacking"] = folder

    def inspect() -> object:
        return inspect_backbone("somebody/lacking", cache_dir=tmp_path / "hub")

    assert "has no config.json, so it is no model that can be read" in refusal(inspect)
    config = {"model_type": "dinov2", "num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps(config))
    assert "has no preprocessor_config.json" in refusal(inspect)
    image_processor("BitImageProcessorPil").save_pretrained(folder)
    spec = inspect_backbone("somebody/lacking", cache_dir=tmp_path / "hub")
    line = refusal(lambda: Backbone.load(spec, layers=[0], device=CPU, cache_dir=tmp_path / "hub"))
    assert "no weights in safetensors format" in line


def test_a_hub_that_is_out_of_order(hub: Hub, tmp_path: Path) -> None:
    refusal(lambda: inspect_backbone("somebody/broken", cache_dir=tmp_path), ServiceError)


def test_a_hub_that_cannot_be_reached(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Left alone the hub's client tries for half a minute, with two lines for each try.
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [caplog.handler])
    point_to("http://127.0.0.1:9", monkeypatch)
    line = refusal(lambda: inspect_backbone("somebody/other", cache_dir=cache), ServiceError)
    assert "the hub http://127.0.0.1:9 cannot be reached" in line
    assert "has no config.json of somebody/other" in line
    for words in ("HF_ENDPOINT", "--model PATH", "HSAE_MODEL"):
        assert words in line
    assert waits == []
    assert caplog.text == ""
    spec = inspect_backbone("somebody/tiny", cache_dir=cache)  # the cache will do
    Backbone.load(spec, layers=[0], device=CPU, cache_dir=cache)
