"""A small real study to explore: two layers of WordNet classes, and a study of classes and files with hostile names."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text
from starlette.testclient import TestClient
from tests.conftest import Service, services_on
from tests.pipeline.in_process import TINY_SAE, run_jobs
from tests.small import bare_scoring, quick_scoring, register, register_small, small_request

from hsae.catalog import transaction
from hsae.cli.main import cli
from hsae.demo import images_folder
from hsae.embedded import StackInfo
from hsae.explorer.app import make_app
from hsae.explorer.reading.sources import Cache, Sources
from hsae.pipeline.planning.submit import submit
from hsae.relevancy.config import MapSettings

CLASS = "<script>alert('class')</script>"
FILE = "\"><img src=x onerror=alert('file')>&amp;.webp"
N_CLASSES = 12
N_MAPPED = 4


def run(service, **changes: Any) -> int:
    """Submit the small request with changes and run its jobs; the study's number."""
    plan = submit(small_request(**changes), service.settings, service.sessions)
    assert set(run_jobs(service, plan)) == {"succeeded"}
    return plan.study_id


def register_hostile(service) -> Path:
    """Register the data set `hostile`: a CSV listing under a custom tree; returns the folder of its images."""
    folder = service.folder / "hostile"
    folder.mkdir()
    sources = sorted(images_folder().glob("*/*.webp"))[:24]
    rows = ["path,label"]
    for number, source in enumerate(sources):
        name = FILE if number == 0 else f"{number}.webp"
        shutil.copy(source, folder / name)
        label = CLASS if number % 2 == 0 else ("plain" if number % 3 else "other")
        rows.append(f'"{name.replace(chr(34), chr(34) * 2)}","{label}"')
    (folder / "listing.csv").write_text("\n".join(rows) + "\n")
    tree = service.folder / "things.csv"
    tree.write_text(f'child,parent\n"{CLASS}",root<b>\nplain,pair\nother,pair\npair,root<b>\n')
    register(service, "hostile", folder / "listing.csv", tree)
    return folder


@dataclass
class Explored:
    """A service with studies: `wordnet` of two layers, then `hostile`, the latest, of one."""

    service: Service
    wordnet: int
    hostile: int
    folder: Path
    client: TestClient
    sources: Sources

    def sql(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """Rows of the catalog."""
        with transaction(self.service.sessions) as session:
            return [dict(row) for row in session.execute(text(query), values).mappings()]

    def one(self, query: str, **values: Any) -> Any:
        """The one value of the catalog."""
        (row,) = self.sql(query, **values)
        (value,) = row.values()
        return value

    def get(self, path: str, status: int = 200) -> str:
        """The text of a page."""
        answer = self.client.get(path, follow_redirects=True)
        assert answer.status_code == status, f"{path}: {answer.status_code}\n{answer.text[:2000]}"
        return answer.text

    def db_query(self, query: str) -> list[dict[str, Any]]:
        """The rows that `hsae-admin db query` gives."""
        done = CliRunner().invoke(cli, ["db", "query", query, "--json"], env=self.service.environment)
        assert done.exit_code == 0, f"{query}\n{done.output}"
        return json.loads(done.stdout)


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `hsae-admin ARGUMENTS` with a service's variables."""

    def run(service, *arguments: object) -> Result:
        for name, value in (service.environment if service else {}).items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def explored(stack: StackInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explored]:
    """The studies, and the explorer on them, in this process; a test leaves them as they were."""
    with services_on(stack, tmp_path_factory) as make_service:
        yield from _explored(make_service(), tmp_path_factory)


def _explored(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explored]:
    register_small(service, n_classes=N_CLASSES)
    scoring = quick_scoring(controls=("neuron", "exemplar"))
    maps = {"map": MapSettings(latents=N_MAPPED, images=3, methods=("chefer", "random"))}
    wordnet = run(service, dataset="small", saes=(TINY_SAE,), scoring=scoring, own=maps)
    folder = register_hostile(service)
    hostile = run(service, dataset="hostile", saes=(TINY_SAE,), scoring=bare_scoring(), layers=(1,))
    sources = Sources(service.settings, Cache(tmp_path_factory.mktemp("cache")))
    with TestClient(make_app(sources), base_url="http://127.0.0.1:8808") as client:
        yield Explored(service, wordnet, hostile, folder, client, sources)
    sources.close()


@pytest.fixture
def stored_latents(explored: Explored) -> list[dict[str, Any]]:
    """The objects with the activations of the first study's analyses: `key` of the analysis and `sha256`."""
    return explored.sql(
        "SELECT a.key, a.activations_sha256 AS sha256 FROM analysis a JOIN analysis_input i ON i.analysis_id = a.id"
        " WHERE i.dataset = 'small' ORDER BY a.id"
    )
