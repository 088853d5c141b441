"""Cancelling jobs, and trying ended ones again."""

import pytest
from sqlalchemy import text, update
from tests.pipeline.in_process import job_id, plan_small, run_jobs
from tests.pipeline.queue.leases import claim, enter_job, job_row
from tests.small import register_small, small_request

from hsae.catalog import ActivationShard, Job, Study, StudyJob, transaction
from hsae.errors import JobCancelledError, ServiceError, UserError
from hsae.pipeline.control.jobs import cancel, jobs_of_study, retry
from hsae.pipeline.planning.submit import Plan, submit
from hsae.pipeline.queue import jobs
from hsae.store.objects import ObjectStore


def _cancel(service, *job_ids: int, keep: bool = True):
    return cancel(service.sessions, service.store, job_ids, "me", keep=keep)


def _retry(service, *job_ids: int):
    with transaction(service.sessions) as session:
        return retry(session, job_ids, "me", service.settings)


def test_cancel_ends_a_job_and_what_waits_for_it_and_its_holder_can_write_nothing(service):
    first = enter_job(service, "first")
    second = enter_job(service, "second", state="waiting", needs=(first,))
    other = enter_job(service, "other")
    lease = claim(service, first).lease
    assert _cancel(service, first).job_ids == (first, second)
    assert [job_row(service, job_id).state for job_id in (first, second, other)] == ["cancelled", "cancelled", "queued"]
    assert job_row(service, second).error == f"needs job {first}, which was cancelled"
    with pytest.raises(JobCancelledError), transaction(service.sessions) as session:
        jobs.hold(session, lease)
    with transaction(service.sessions) as session:
        assert jobs.renew(session, lease, 60, {}) == "cancelled"


def test_cancel_leaves_what_is_done_alone_and_knows_no_unknown_job(service):
    done = enter_job(service, "done", state="succeeded")
    assert _cancel(service, done).left == {done: "it is succeeded already"}
    with pytest.raises(UserError, match="no job 999: see `hsae-admin jobs list`"):
        _cancel(service, 999)


def test_jobs_that_another_study_needs_are_left_alone(service):
    own, shared = enter_job(service, "own"), enter_job(service, "shared")
    with transaction(service.sessions) as session:
        studies = [Study(name=name, request={}) for name in ("one", "two")]
        session.add_all(studies)
        session.flush()
        one, two = (study.id for study in studies)
        session.add_all(StudyJob(study_id=study, job_id=job, reused=False) for study, job in
                        ((one, own), (one, shared), (two, shared)))  # fmt: skip
    with transaction(service.sessions) as session:
        assert jobs_of_study(session, one) == ([own], {shared: f"study {two} needs it, too"})


def test_retry_takes_along_what_is_needed_and_what_ended_because_of_it(service):
    first = enter_job(service, "first", state="failed")
    second = enter_job(service, "second", state="failed", needs=(first,))
    third = enter_job(service, "third", state="failed", needs=(second,))
    unrelated = enter_job(service, "unrelated", state="cancelled", needs=(first,))  # cancelled for its own sake
    with transaction(service.sessions) as session:
        for job_id, needed in ((second, first), (third, second)):
            session.execute(update(Job).where(Job.id == job_id).values(error=f"needs job {needed}, which failed"))
        session.execute(update(Job).where(Job.id == first).values(attempt=3, outages=4, error="it broke"))
    again = _retry(service, second)
    assert again.job_ids == (first, second, third)
    assert [notification.job_id for notification in again.notifications] == [first]
    states = [job_row(service, job_id).state for job_id in (first, second, third, unrelated)]
    assert states == ["queued", "waiting", "waiting", "cancelled"]
    row = job_row(service, first)
    assert (row.attempt, row.outages, row.error) == (0, 0, None)


@pytest.mark.parametrize(("state", "message"), [("succeeded", "has succeeded"), ("running", "is running: wait for it")])
def test_what_has_not_ended_is_not_tried_again(service, state, message):
    with pytest.raises(UserError, match=message):
        _retry(service, enter_job(service, "one", state=state))


def _partly_extracted(service) -> tuple[Plan, int]:
    """A plan, and its extraction as a crashed worker leaves it: stored shards, and no manifest entered."""
    register_small(service, n_classes=3)
    plan = plan_small(service, layers=(1,))
    extract = job_id(plan, "extract")
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE job SET not_before = NULL"))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE activation_set SET manifest_sha256 = NULL"))
        session.execute(text("UPDATE job SET state = 'queued' WHERE id = :id"), {"id": extract})
    return plan, extract


@pytest.mark.parametrize("keep", [False, True])
def test_partial_work_of_a_cancelled_job_is_deleted_or_kept(service, keep):
    plan, extract = _partly_extracted(service)
    _cancel(service, extract, keep=keep)
    with transaction(service.sessions) as session:
        assert bool(session.query(ActivationShard).count()) == keep
    assert bool(list(service.store.list("activations/"))) == keep
    again = _retry(service, extract)
    assert [notification.job_id for notification in again.notifications] == [extract]
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)


class _StoreThatGoesAway(ObjectStore):
    """It deletes one object and is gone."""

    is_gone = False

    def delete(self, key: str) -> None:
        if self.is_gone:
            raise ServiceError("the object store is away")
        self.is_gone = True
        super().delete(key)


def test_a_clean_up_that_is_cut_short_leaves_no_row_of_a_deleted_object(service):
    plan, extract = _partly_extracted(service)
    before = list(service.store.list("activations/"))
    store = _StoreThatGoesAway.from_settings(service.settings)
    assert cancel(service.sessions, store, [extract], "tester").not_deleted == "the object store is away"
    assert len(list(service.store.list("activations/"))) == len(before) - 1
    with transaction(service.sessions) as session:
        assert session.query(ActivationShard).count() == 0
    _retry(service, extract)
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)


def test_an_extraction_whose_layers_another_job_makes_now_is_not_tried_again(service):
    register_small(service, n_classes=3)
    plan = submit(small_request(layers=(1, 2)), service.settings, service.sessions)
    (extract,) = (job.id for job in plan.jobs if job.kind == "extract")
    _cancel(service, extract)
    fewer = submit(small_request(layers=(2,)), service.settings, service.sessions)
    (maker,) = (job.id for job in fewer.jobs if job.kind == "extract")
    with pytest.raises(UserError, match=f"job {maker} makes layers of job {extract} now: submit the request again"):
        _retry(service, extract)
