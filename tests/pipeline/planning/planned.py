"""What a plan says of its jobs, and what became of them."""

import shutil

from hsae.catalog import Job, transaction


def statuses(plan):
    return [(job.kind, job.status) for job in plan.jobs]


def notified(plan):
    return [notification.job_id for notification in plan.to_notify]


def job_row(service, number):
    with transaction(service.sessions) as session:
        return session.get_one(Job, number)


def copied(source, target):
    shutil.copytree(source, target)
    return target
