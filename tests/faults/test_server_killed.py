"""A server killed in the middle of each stage, and started again: the job goes on."""

import signal
import time

import pytest
from tests.faults.standing import IN_TURN, lease_seconds


@pytest.mark.parametrize("server", ["postgres", "valkey", "seaweedfs"])
def test_killed_once_in_every_stage_it_costs_no_attempt(standing, server):
    """Nobody could renew a lease while Postgres was away: once it is back, the holder has one lease's time to do so."""
    plan = standing.submit_from("extract")
    for kind in IN_TURN:
        with standing.in_the_middle(kind):
            if server == "postgres":
                standing.end_postgres_for_an_hour()
            else:
                standing.end_server(server)
        standing.stack.start()
    jobs = standing.check_finished(plan)
    assert {job["attempt"] for job in jobs} == {1}, standing.service.logs()


@pytest.mark.parametrize("server", ["postgres", "valkey", "seaweedfs"])
def test_killed_while_a_layer_is_probed_it_costs_no_attempt(standing, server):
    plan = standing.submit_from("probe")
    with standing.in_the_middle("probe"):
        standing.end_server(server)
    standing.stack.start()
    jobs = standing.check_finished(plan)
    assert {job["attempt"] for job in jobs} == {1}, standing.service.logs()


def test_the_database_is_away_until_the_worker_knows_that_its_lease_is_over(standing):
    plan = standing.submit_from("train")
    standing.wait_for_middle("train")
    standing.end_server("postgres")
    time.sleep(lease_seconds() + 1)
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
