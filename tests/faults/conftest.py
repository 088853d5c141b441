"""What every fault test is compared with, and the servers that tests may kill."""

from pathlib import Path

import pytest
from tests.conftest import services_on
from tests.faults.standing import KINDS, Standing, lease_seconds
from tests.small import all_results, register_small, submit_mapped, wait_until_done

from hsae.embedded import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests wait several times, on a slow machine for minutes each; all but one kill a stage are `slow`."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(1800))
            if item.path.name != "test_worker_killed.py":
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package")
def servers(tmp_path_factory):
    """A stack of these tests' own: the other tests' servers are not to be killed."""
    with Stack(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture(scope="package")
def make_own_service(servers, tmp_path_factory):
    """Makes services on the servers that may be killed."""
    with services_on(servers.info(), tmp_path_factory, lease_seconds=lease_seconds()) as make:
        yield make


@pytest.fixture
def make_service(stack, tmp_path_factory):
    """Makes services that end with the test: what their idle workers do would slow down the next one's."""
    with services_on(stack, tmp_path_factory, lease_seconds=lease_seconds()) as make:
        yield make


@pytest.fixture(scope="package")
def long_standing(make_own_service, servers) -> Standing:
    """A service with one worker that has made the small request once, undisturbed."""
    service = make_own_service(checkpoint_seconds=0.2, retry_seconds=0.5)
    register_small(service)
    service.start_worker()
    standing = Standing(service, servers)
    jobs = wait_until_done(service, submit_mapped(service).study_id)
    assert {job["state"] for job in jobs} == {"succeeded"}, service.logs()
    standing.results = all_results(service)
    empty = {name for name, rows in standing.results.items() if not rows}
    # One needs several seeds, the others a file of interventions or a text model.
    assert empty <= {
        "stability", "interventions", "intervention sets", "readouts", "label effects", "steerability", "name sets",
        "names",
    }  # fmt: skip
    for kind in KINDS:
        standing.seconds[kind] = min(float(job["seconds"]) for job in jobs if job["kind"] == kind)
    return standing


@pytest.fixture
def standing(long_standing) -> Standing:
    """The same, with its servers and its worker alive."""
    if not long_standing.stack.status().running:  # an earlier test failed
        long_standing.stack.start()
    assert long_standing.service.workers[0].poll() is None, long_standing.service.logs()
    return long_standing


@pytest.fixture(scope="package")
def undisturbed(long_standing):
    """The results of a run that nothing disturbs, and how long each kind of job took."""
    return long_standing.results, long_standing.seconds
