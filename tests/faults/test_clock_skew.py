"""Workers whose clocks are two hours wrong: leases are the database's matter, and the S3 server refuses them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.standing import Standing
from tests.waiting import rows_of, wait_for

from hsae.pipeline.doorbell import make_app

_LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
pytestmark = pytest.mark.skipif(_LIBRARY is None, reason="needs libfaketime (Debian's package faketime)")


@pytest.fixture
def skewed_workers(standing) -> Iterator[list[int]]:
    """Process ids of a worker two hours ahead and of one two hours behind."""
    workers = [
        standing.service.start_worker(
            LD_PRELOAD=str(_LIBRARY), FAKETIME=shift, FAKETIME_DONT_FAKE_MONOTONIC="1", FAKETIME_DONT_RESET="1"
        )
        for shift in ("+2h", "-2h")
    ]
    yield [worker.pid for worker in workers]
    for worker in workers:
        worker.kill()
        worker.wait()


def _nodes(control, n: int, message: Callable[[], str]) -> set[str]:
    """Names of the workers, once so many answer the same ping."""
    nodes: set[str] = set()

    def all_answer() -> bool:
        nodes.clear()
        nodes.update(name for reply in control.ping(timeout=1) or [] for name in reply)
        return len(nodes) == n

    wait_for(all_answer, message=message)
    return nodes


def _listen(control, nodes: set[str], *, begin: bool) -> None:
    change = control.add_consumer if begin else control.cancel_consumer
    for queue in ("gpu", "cpu"):
        assert len(change(queue, destination=sorted(nodes), reply=True, timeout=30, limit=len(nodes))) == len(nodes)


def test_no_lease_is_stolen_and_no_job_lost(standing: Standing, request):
    service = standing.service
    control = make_app(service.settings).control
    right = _nodes(control, 1, service.logs)
    pids = request.getfixturevalue("skewed_workers")
    skewed = _nodes(control, 3, service.logs) - right
    _listen(control, skewed, begin=False)

    # Their reconcilers look for expired leases twice a second, by the wrong clocks, and find none.
    jobs = standing.check_finished(standing.submit_from("train"))
    assert {(job["attempt"], job["outages"]) for job in jobs} == {(1, 0)}, service.logs()

    _listen(control, right, begin=False)
    _listen(control, skewed, begin=True)
    plan = standing.submit_from("train")
    refused = """
        SELECT DISTINCT split_part(who, ':', 2) AS pid FROM job_event
        WHERE reason = 'outage' AND message LIKE '%the clocks of the two machines differ; set them right'
    """
    wait_for(lambda: {int(row["pid"]) for row in rows_of(service, refused)} == set(pids), message=service.logs)
    _listen(control, skewed, begin=False)
    _listen(control, right, begin=True)
    jobs = standing.check_finished(plan)
    assert {job["attempt"] for job in jobs} == {1}, service.logs()
    assert rows_of(service, "SELECT 1 FROM job_event WHERE reason = 'lease_expired'") == []
