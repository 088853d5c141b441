"""A small finished study, and the workspace of a notebook that opens it."""

import json
from collections.abc import Iterator

import pytest
import torch
from click.testing import CliRunner
from tests.conftest import Service, services_on
from tests.pipeline.in_process import run_study
from tests.small import quick_scoring, register_small, small_request

import hsae
from hsae.catalog import UNSUCCESSFUL_STATES, Dataset, transaction
from hsae.catalog.tables.maps import LatentMap, MapSet
from hsae.cli.main import cli
from hsae.pipeline.connections import Connections
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import read_listing
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig
from hsae.split_config import SplitConfig
from hsae.store.keys import maps_key
from hsae.store.tensors import put_tensors

SAES = (
    SaeConfig(kind="relu", target_l0=8, expansion=4, n_steps=200),
    SaeConfig(kind="topk", k=8, expansion=4, n_steps=200),
)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> Iterator[None]:
    """Thumbnails are kept in a folder of the tests'."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def request_of_study() -> SubmitRequest:
    """What study 1 was submitted with."""
    return small_request(saes=SAES, scoring=quick_scoring(embeddings="own"), split=SplitConfig())


@pytest.fixture(scope="session")
def studied(stack, tmp_path_factory, request_of_study) -> Iterator[Service]:
    """A service with study 1: layers 1 and 3 of the bundled backbone, a ReLU and a TopK SAE each, 40 classes."""
    with services_on(stack, tmp_path_factory) as make:
        service = make()
        register_small(service)
        plan = submit(request_of_study, service.settings, service.sessions)
        jobs = run_study(service, plan.study_id)
        assert not [job for job in jobs if job["state"] in UNSUCCESSFUL_STATES], jobs
        yield service


@pytest.fixture
def workspace(studied) -> hsae.Workspace:
    """What `hsae.open()` gives for these servers."""
    connections = Connections()
    connections.use(studied.settings)
    return hsae.Workspace(connections)


@pytest.fixture
def study(workspace) -> hsae.Study:
    """The study."""
    return workspace.study("latest")


@pytest.fixture
def analysis(study) -> hsae.Analysis:
    """Its analysis of layer 3 and k = 8."""
    return study.analysis(layer=3, k=8)


@pytest.fixture
def mapped(analysis, studied):
    """A latent of the analysis with a map of its strongest image by two formulas; that of the second is undefined."""
    latent = int(analysis.latents().query("n_fire >= 2").latent.iloc[0])
    top = analysis.show(latent, n=2).cards[0].images
    maps = {"chefer": torch.eye(4).half().view(1, 4, 4), "gradcam": torch.ones(1, 4, 4).half()}
    stored = put_tensors(studied.store, maps_key("planted"), maps, {})
    with transaction(studied.sessions) as session:
        row = MapSet(key="planted", analysis_id=analysis.id, job_id=1, config={}, n_latents=1, n_maps=2, n_undefined=1,
                     n_patch_rows=4, n_patch_cols=4, maps_sha256=stored.sha256)  # fmt: skip
        session.add(row)
        session.flush()
        for method, rank, index in (("chefer", 1, 0), ("gradcam", 1, 0), ("chefer", 2, None)):
            image = top[rank - 1]
            session.add(LatentMap(map_set_id=row.id, method=method, latent=latent, rank=rank, image=image.image,
                                  path=image.path, activation=1.0, map_index=index))  # fmt: skip
        number = row.id
    yield latent
    with transaction(studied.sessions) as session:
        session.delete(session.get_one(MapSet, number))


@pytest.fixture
def admin(monkeypatch):
    """Runs `hsae-admin ARGUMENTS` with a service's variables."""

    def run(service: Service, *arguments: object):
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(cli, [*map(str, arguments)])

    return run


@pytest.fixture
def admin_json(studied, admin):
    """The JSON that `hsae-admin ARGUMENTS --json` prints for the finished study's service."""

    def run(*arguments: object):
        done = admin(studied, *arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


def paths_of(analysis, images):
    """The files of images, by their numbers in the listing."""
    with transaction(analysis.connections.sessions) as session:
        dataset = session.get_one(Dataset, analysis.about["dataset_id"])
    listing = read_listing(analysis.connections.store, dataset_ref(dataset))
    return [f"{dataset.root}/{path}" for path in listing["path"].take(images).to_pylist()]
