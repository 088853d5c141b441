"""A server killed in the middle of each stage, and started again some seconds later: the job goes on."""

import signal
import time

import pytest
from tests.faults.standing import KINDS, LEASE_SECONDS

_SECONDS_AWAY = {"postgres": LEASE_SECONDS + 1, "valkey": 2, "seaweedfs": 2}


@pytest.mark.parametrize("server", _SECONDS_AWAY)
def test_killed_once_in_every_stage_it_costs_no_attempt(standing, server):
    plan = standing.submit_from("extract")
    for kind in KINDS:
        with standing.in_the_middle(kind):
            standing.end_server(server)
        time.sleep(_SECONDS_AWAY[server])
        standing.stack.start()
    jobs = standing.check_finished(plan)
    assert {job["attempt"] for job in jobs} == {1}, standing.service.logs()


def test_postgres_restarted_for_maintenance(standing):
    """As `pg_ctl restart --mode=fast` does it: the work goes on where it is."""
    plan = standing.submit_from("train")
    standing.wait_for_middle("train")
    standing.end_server("postgres", signal.SIGINT)
    standing.stack.start()
    jobs = standing.check_finished(plan)
    assert {job["attempt"] for job in jobs} == {1}, standing.service.logs()
