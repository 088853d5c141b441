"""Plans: where the jobs run."""

import pytest
from sqlalchemy import update
from tests.pipeline.default_plan import default_kinds
from tests.pipeline.in_process import job_id, plan_small, run_jobs
from tests.pipeline.planning.planned import job_row, statuses
from tests.small import link_classes, register, register_small, small_request

from hsae.catalog import Job, transaction
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.cost import cpu_seconds
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.planning.submit import submit
from hsae.vocabulary.bases import BASELINES


def with_gpus(service, minutes):
    """The same service, of which the workers of the queue gpu have GPUs."""
    service.settings = service.settings.model_copy(update={"gpu_analysis_minutes": minutes})


def queues(service, plan):
    return {job.kind: job_row(service, job.id).queue for job in plan.jobs}


USUAL = {kind: stage_of(kind).queue for kind in default_kinds()}


def test_an_analysis_above_the_threshold_goes_to_the_gpus_and_is_the_same_artifact(service):
    register_small(service, n_classes=2)
    usual = plan_small(service, layers=(1,))
    assert queues(service, usual) == USUAL
    with_gpus(service, 0)
    assert statuses(plan_small(service, layers=(1,)))[0] == ("extract", "joined"), "what is under way stays where it is"
    assert queues(service, usual) == USUAL
    big = plan_small(service, layers=(2,))
    assert USUAL["analyze"] == "cpu"
    assert queues(service, big) == USUAL | {"analyze": "gpu"}
    assert [notification.queue for notification in big.to_notify] == ["gpu"]
    assert run_jobs(service, big)[-2:] == ["succeeded", "succeeded"]


def test_the_queue_is_no_part_of_the_key(service):
    register_small(service, n_classes=2)
    keys = {}
    for minutes in (0, float("inf")):
        with_gpus(service, minutes)
        with transaction(service.sessions) as session:
            session.execute(update(Job).values(state="cancelled"))
        plan = plan_small(service, layers=(1,))
        keys[minutes] = [job.key for job in plan.jobs]
        assert queues(service, plan)["analyze"] == ("gpu" if minutes == 0 else "cpu"), "a submit chooses anew"
    assert keys[0] == keys[float("inf")]


@pytest.mark.parametrize(("controls", "queue"), [((), "cpu"), (BASELINES, "gpu")])
def test_the_estimate_knows_images_latents_and_controls(service, controls, queue):
    """The threshold lies between the estimates of the SAE alone and of it with its controls."""
    dataset, _ = register(service, "small", link_classes(service.folder, 2))
    n_latents, d_model = 4 * 192, 192
    scorings = [ScoringConfig(controls=some, n_shuffles=0, embeddings="own") for some in ((), BASELINES)]
    minutes = [cpu_seconds(scoring, dataset.n_images, n_latents, d_model) / 60 for scoring in scorings]
    with_gpus(service, sum(minutes) / 2)
    request = small_request(layers=(3,), scoring=scorings[bool(controls)])
    plan = submit(request, service.settings, service.sessions)
    assert job_row(service, job_id(plan, "analyze")).queue == queue
