"""Images that are too few for three parts are planned in both folds; all others as before."""

from collections import Counter

import pytest
from tests.pipeline.default_plan import default_kinds, kinds_per
from tests.pipeline.in_process import TINY_SAE, plan_small
from tests.small import ONE_WAY, few_images, link_classes, register, small_request

from hsae.catalog import Job, transaction
from hsae.errors import UserError
from hsae.pipeline.planning import submit as planning
from hsae.pipeline.planning.submit import preview, submit
from hsae.split_config import NamedGroups, SplitConfig

OF_HALVES = (*kinds_per("layer"), *kinds_per("sae"))


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with a data set of two images per class, and one of enough."""
    service = make_service()
    register(service, "few", few_images(service.folder / "few", n_classes=4))
    register(service, "enough", link_classes(service.folder, 4))
    return service


def kinds_of(plan):
    return Counter(job.kind for job in plan.jobs)


def requests_of(service, plan):
    with transaction(service.sessions) as session:
        return {job.id: session.get_one(Job, job.id).request for job in plan.jobs}


def test_halves_are_trained_and_scored_in_turn_and_compared_once(ready):
    plan = plan_small(ready, "few", layers=(1,), split=SplitConfig())
    assert kinds_of(plan) == Counter(default_kinds(n_splits=2))
    requests = requests_of(ready, plan)
    keys = {job.id: job.key for job in plan.jobs}
    for kind in OF_HALVES:
        numbers = [job.id for job in plan.jobs if job.kind == kind]
        assert [requests[number]["split"].get("fold") for number in numbers] == [None, 1]
        titles = [job.title for job in plan.jobs if job.kind == kind]
        assert [title.rsplit(", ", 1)[1] for title in titles] == ["half 2 scored", "half 1 scored"]
    analyses = [job.id for job in plan.jobs if job.kind == "analyze"]
    trainings = [job.id for job in plan.jobs if job.kind == "train"]
    assert [requests[number]["sae_key"] for number in analyses] == [keys[number] for number in trainings]
    (compared,) = (requests[job.id]["analyses"] for job in plan.jobs if job.kind == "compare")
    assert compared == sorted(keys[number] for number in analyses)
    again = plan_small(ready, "few", layers=(1,), split=SplitConfig())
    assert (again.study_id, kinds_of(again)) == (plan.study_id, kinds_of(plan))
    assert {job.status for job in again.jobs} == {"joined"}


def test_one_way_is_another_study_with_the_keys_of_earlier_versions(ready):
    both = plan_small(ready, "few", layers=(3,), split=SplitConfig())
    one = plan_small(ready, "few", layers=(3,), split=SplitConfig(), **ONE_WAY)
    assert kinds_of(one) == Counter(default_kinds())
    assert one.study_id != both.study_id
    assert {job.key for job in one.jobs} - {job.key for job in both.jobs} == {
        job.key for job in one.jobs if job.kind == "compare"
    }
    assert not any("half" in job.title for job in one.jobs if job.kind == "train")
    other = plan_small(ready, "few", layers=(3,), split=SplitConfig(fold=1))
    assert kinds_of(other) == kinds_of(one)
    assert {job.key for job in other.jobs} < {job.key for job in both.jobs} | {
        job.key for job in other.jobs if job.kind == "compare"
    }
    assert all("half 1 scored" in job.title for job in other.jobs if job.kind in OF_HALVES)


@pytest.mark.parametrize(
    ("dataset", "split"), [("enough", SplitConfig()), ("few", None), ("enough", SplitConfig(seed=3))]
)
def test_all_others_have_no_more_jobs(ready, dataset, split):
    plan = plan_small(ready, dataset, layers=(1,), split=split)
    assert kinds_of(plan) == Counter(default_kinds())
    assert not any("half" in job.title for job in plan.jobs)


def test_what_decides_without_the_images_reads_no_listing(ready, monkeypatch):
    monkeypatch.setattr("hsae.pipeline.inputs.image_split.read_split", None)
    for changes in (
        {"split": SplitConfig(groups=NamedGroups(select=("a",), score=("b",)))},
        {"split": None}, {"split": SplitConfig(), "score_dataset": "enough"}, {"split": SplitConfig(), **ONE_WAY},
    ):  # fmt: skip
        assert kinds_of(preview_small(ready, "few", **changes))["train"] == 1


def preview_small(service, dataset, **changes):
    request = small_request(dataset, layers=(1,), saes=(TINY_SAE,), **changes)
    return preview(request, service.settings, service.sessions)


def test_a_fold_is_refused_where_nothing_is_halved(ready):
    with pytest.raises(UserError, match="fold 1 exchanges the halves of a data set with too few images"):
        preview_small(ready, "enough", split=SplitConfig(fold=1))
    with pytest.raises(UserError, match="here another one trains"):
        preview_small(ready, "few", split=SplitConfig(fold=1), score_dataset="enough")


def test_twice_the_jobs_count_towards_the_most_of_a_study(ready, monkeypatch):
    n_jobs = 2 * len(OF_HALVES)
    monkeypatch.setattr(planning, "MAX_JOBS", n_jobs - 1)
    request = small_request("few", layers=(1,), saes=(TINY_SAE,), split=SplitConfig())
    with pytest.raises(UserError, match=f"{n_jobs} jobs are more than the {n_jobs - 1} of one study"):
        submit(request, ready.settings, ready.sessions)
    submit(request.model_copy(update=ONE_WAY), ready.settings, ready.sessions)
