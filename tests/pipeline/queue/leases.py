"""Jobs of a queue without a study, and the steps of a lease."""

from sqlalchemy import text, update

from hsae.catalog import Job, JobDependency, transaction
from hsae.pipeline.queue import jobs
from hsae.pipeline.queue.reconcile import repair_queue


def enter_job(service, key: str, *, state: str = "queued", needs: tuple[int, ...] = (), max_attempts: int = 3) -> int:
    with transaction(service.sessions) as session:
        job = Job(key=key, kind="train", queue="gpu", title=key, request={}, state=state, max_attempts=max_attempts)
        session.add(job)
        session.flush()
        session.add_all(JobDependency(job_id=job.id, depends_on_id=needed) for needed in needs)
        return job.id


def claim(service, job_id: int, owner: str = "a", lease_seconds: float = 60):
    with transaction(service.sessions) as session:
        return jobs.claim(session, job_id, owner, lease_seconds)


def job_row(service, job_id: int) -> Job:
    with transaction(service.sessions) as session:
        return session.get_one(Job, job_id)


def expire(service, job_id: int) -> None:
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=text("now() - interval '1 s'")))


def reconciled(service) -> list[int]:
    # The database may just have been started, and no holder needs time to renew.
    with transaction(service.sessions) as session:
        return [
            notification.job_id
            for notification in repair_queue(session, "reconciler", service.settings, grace_seconds=0).ready
        ]
