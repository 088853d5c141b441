"""A finished study, and what garbage collection finds and deletes of a service."""

from datetime import timedelta

from tests.pipeline.in_process import plan_small, run_jobs
from tests.small import register_small

from hsae.pipeline.upkeep.garbage import collect, find_garbage

NOW = timedelta(0)
HOUR = timedelta(hours=1)
KEY = "ab" * 32


def plan_layer(service, **changes):
    return plan_small(service, **{"layers": (1,), **changes})


def finished(service):
    """A service whose one study is done."""
    register_small(service, n_classes=2)
    plan = plan_layer(service)
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)
    return plan


def objects(service):
    return set(service.store.list(""))


def garbage(service, min_age=NOW, **options):
    found = find_garbage(service.sessions, service.store, min_age=min_age, **options)
    return {listed.key for folder in found for listed in folder.objects}


def collected(service, min_age=NOW, **options):
    found = list(find_garbage(service.sessions, service.store, min_age=min_age, **options))
    deleted = collect(service.sessions, service.store, found, min_age=min_age, **options)
    return {listed.key for folder in deleted for listed in folder.objects}
