"""Repositories of the hub: which files are asked for, what a cache gives offline, what an upload sends."""

import json
import logging
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors
from tests.sae.exchange.peer_files import saelens_config, weights, write
from tests.sae.exchange.test_round_trips import an_sae

from hsae.errors import ServiceError, UserError
from hsae.sae.exchange.place import SaePlace
from hsae.sae.exchange.source import find_checkpoint
from hsae.sae.model import SparseAutoencoder


class Hub:
    """A repository in a folder, in the place of the hub's API."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.offline = False
        self.patterns: list[str] | None = None
        self.uploaded: dict[str, bytes] = {}

    def model_info(self, repo_id, *, revision=None, timeout=None):
        if self.offline:
            raise errors.OfflineModeIsEnabled("offline")
        if revision == "missing":
            raise errors.RevisionNotFoundError("no", response=_response())
        if repo_id != "me/saes":
            raise errors.RepositoryNotFoundError("no", response=_response())
        files = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in files])

    def snapshot_download(self, repo_id, *, local_files_only=False, allow_patterns=None, **options):
        if local_files_only:
            if not self.cache.exists():
                raise errors.LocalEntryNotFoundError("not in the cache")
            return str(self.cache)
        self.patterns = allow_patterns
        for name in allow_patterns or ():
            (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.folder / name, self.cache / name)
        return str(self.cache)

    def create_repo(self, repo_id, *, private, exist_ok):
        if repo_id == "other/saes":
            raise errors.HfHubHTTPError("no", response=_response())

    def upload_folder(self, *, repo_id, folder_path, revision, commit_message):
        self.uploaded = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        return f"https://huggingface.co/{repo_id}/commit/1"


def _response() -> Any:
    """What the errors read of a response; the client's own class differs between versions of huggingface_hub."""
    return SimpleNamespace(headers={}, request=None)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    write(tmp_path / "repo/layers.8", saelens_config("standard"), weights())
    write(tmp_path / "repo/layers.9", saelens_config("standard"), weights())
    (tmp_path / "repo/README.md").write_text("")
    made = Hub(tmp_path / "repo", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.chdir(tmp_path)
    return made


def test_only_the_files_of_one_sae_are_downloaded(hub):
    sae = SparseAutoencoder.from_pretrained("me/saes", subfolder="layers.8")
    assert sorted(hub.patterns) == ["layers.8/cfg.json", "layers.8/sae.safetensors"]
    assert sae.config.imported.name == "saes-layers.8"


def test_a_repository_of_several_needs_a_subfolder(hub):
    with pytest.raises(UserError, match=r"layers.8, layers.9\): choose one with --subfolder"):
        SparseAutoencoder.from_pretrained("me/saes")
    with pytest.raises(UserError, match="choose one with --subfolder"):
        SparseAutoencoder.from_pretrained("me/saes", subfolder="layers.7")
    assert hub.patterns is None


def test_a_repository_with_a_pickle_alone_is_not_downloaded(hub):
    shutil.rmtree(hub.folder)
    hub.folder.mkdir()
    (hub.folder / "weights.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"only a pickle \(weights.pt\)"):
        SparseAutoencoder.from_pretrained("me/saes")
    assert hub.patterns is None


def test_offline_the_cache_counts(hub):
    SparseAutoencoder.from_pretrained("me/saes", subfolder="layers.8")
    hub.offline = True
    assert SparseAutoencoder.from_pretrained("me/saes", subfolder="layers.8").config.imported.layer == 8
    shutil.rmtree(hub.cache)
    with pytest.raises(ServiceError, match="not in the cache"):
        SparseAutoencoder.from_pretrained("me/saes", subfolder="layers.8")


def test_a_hub_that_cannot_be_reached_is_asked_once_and_in_silence(tmp_path, monkeypatch, caplog):
    """Left alone the hub's client tries for half a minute, with two lines for each try."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [caplog.handler])
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    place = SaePlace("me/saes", cache_dir=tmp_path / "cache")
    with pytest.raises(ServiceError, match=r"no folder here and not in the cache, and the hub http://127.0.0.1:9"):
        find_checkpoint(place)
    assert (waits, caplog.text) == ([], "")


def test_what_is_not_there(hub):
    with pytest.raises(UserError, match="no such repository"):
        SparseAutoencoder.from_pretrained("me/nothing")
    with pytest.raises(UserError, match="has no revision missing"):
        SparseAutoencoder.from_pretrained("me/saes", subfolder="layers.8", revision="missing")


def test_an_upload_is_what_is_saved(hub, tmp_path):
    sae = an_sae("topk")
    assert sae.push_to_hub("me/saes", layer=3) == "https://huggingface.co/me/saes/commit/1"
    folder = sae.save_pretrained(tmp_path / "saved", layer=3)
    assert hub.uploaded == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert json.loads(hub.uploaded["config.json"])["trained_at"]["layer"] == 3
    with pytest.raises(UserError, match="the hub refuses other/saes"):
        sae.push_to_hub("other/saes")
