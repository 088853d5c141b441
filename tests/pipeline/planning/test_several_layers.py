"""Plans of interventions that edit all layers of a study in one pass: one job for each setting of SAEs."""

import pytest
from sqlalchemy import select
from tests.pipeline.in_process import TINY_SAE, plan_small
from tests.small import few_images, register, register_small

from hsae.catalog import Job, JobDependency, transaction
from hsae.errors import UserError
from hsae.interventions.config import InterveneSettings
from hsae.pipeline.kinds.registry import stage_of
from hsae.split_config import SplitConfig

TOGETHER = InterveneSettings(nodes=("entity.n.01",), layers="together")
SAES = (TINY_SAE, TINY_SAE.model_copy(update={"seed": 1}))


def requests_of(service, plan):
    """The requests of the plan's interventions, with the keys of the artifacts that the job waits for."""
    found = []
    with transaction(service.sessions) as session:
        for planned in plan.jobs:
            if planned.kind == "intervene":
                needs = select(Job.key).join(JobDependency, JobDependency.depends_on_id == Job.id)
                job = session.get_one(Job, planned.id)
                keys = set(session.scalars(needs.where(JobDependency.job_id == job.id)))
                found.append((planned, stage_of(job.kind).request.model_validate(job.request), keys))
    return found


def analyses(plan, **wanted):
    """By layer the keys of the plan's analyses of one SAE."""
    return {
        job.layers[0]: job.key
        for job in plan.jobs
        if job.kind == "analyze" and all(getattr(job, name) == value for name, value in wanted.items())
    }


def test_one_job_for_each_setting_needs_the_analyses_of_all_layers(service):
    register_small(service, n_classes=2)
    plan = plan_small(service, layers=(3, 0, 1), saes=SAES, own={"intervene": TOGETHER})
    found = requests_of(service, plan)
    assert [planned.sae for planned, _, _ in found] == list(SAES)
    for planned, request, needs in found:
        of_sae = analyses(plan, sae=planned.sae)
        assert planned.layers == (0, 1, 3)
        assert (request.layer, request.analysis_key) == (3, of_sae[3])
        assert {other.layer: other.analysis_key for other in request.others} == {0: of_sae[0], 1: of_sae[1]}
        assert [edited.layer for edited in request.edited] == [0, 1, 3]
        assert needs == set(of_sae.values())
        trained = {job.key for job in plan.jobs if job.kind == "train" and job.sae == planned.sae}
        assert {edited.sae_key for edited in request.edited} == trained
        assert "dinov2-emoji layer 0-1, 3 on small (nodes=entity.n.01, layers=together)" in planned.title
    kinds = [job.kind for job in plan.jobs]
    assert kinds.index("intervene") > max(at for at, kind in enumerate(kinds) if kind == "analyze")


def test_it_is_the_same_study_and_the_same_set_only_with_the_same_layers(service):
    register_small(service, n_classes=2)
    each = plan_small(service, layers=(1, 3), own={"intervene": TOGETHER.model_copy(update={"layers": "each"})})
    together = plan_small(service, layers=(1, 3), own={"intervene": TOGETHER})
    again = plan_small(service, layers=(1, 3), own={"intervene": TOGETHER})
    more = plan_small(service, layers=(0, 1, 3), own={"intervene": TOGETHER})
    assert each.study_id == together.study_id == again.study_id
    keys = [[planned.key for planned, _, _ in requests_of(service, plan)] for plan in (each, together, again, more)]
    assert [len(found) for found in keys] == [2, 1, 1, 1]
    assert keys[1] == keys[2]
    assert len({key for found in keys for key in found}) == 4
    assert {job.status for job in again.jobs} == {"joined"}


def test_halves_and_another_data_set_have_their_own_layers(service, tmp_path):
    register(service, "few", few_images(tmp_path, 4))
    halved = plan_small(service, "few", layers=(1, 3), split=SplitConfig(), own={"intervene": TOGETHER})
    found = requests_of(service, halved)
    assert len(found) == 2
    for planned, request, needs in found:
        assert planned.half in planned.title
        assert needs == set(analyses(halved, half=planned.half).values())
        assert len(needs) == len(request.edited) == 2
    register_small(service, n_classes=4)
    apart = plan_small(
        service, "small", score_dataset="few", layers=(1, 3), split=SplitConfig(), own={"intervene": TOGETHER}
    )
    ((_, request, needs),) = requests_of(service, apart)
    assert needs == set(analyses(apart).values())
    assert request.dataset.name == "few"
    with transaction(service.sessions) as session:
        scored = [
            stage_of("analyze").request.model_validate(job.request).apart.activation_key
            for job in session.scalars(select(Job).where(Job.key.in_(needs)).order_by(Job.id))
        ]
    assert [edited.activation_key for edited in request.edited] == scored


def test_a_study_of_one_layer_is_refused(service):
    register_small(service, n_classes=2)
    with pytest.raises(UserError, match="edits several layers in one pass, and the study has one: ask for more"):
        plan_small(service, layers=(1,), own={"intervene": TOGETHER})
