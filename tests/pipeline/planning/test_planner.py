"""Plans: which jobs there are, what is reused, and what many submits at once enter."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text
from tests.pipeline.default_plan import default_kinds, kinds_per
from tests.pipeline.in_process import TINY_SAE, plan_small, run_jobs
from tests.pipeline.planning.planned import copied, job_row, notified, statuses
from tests.small import link_classes, register, register_small, small_request

from hsae.catalog import ActivationSet, Job, JobDependency, JobEvent, Study, connect, session_factory, transaction
from hsae.demo import backbone_folder
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.hierarchy.config import ScoringConfig
from hsae.pipeline.planning.submit import MAX_JOBS, check_model, preview, submit
from hsae.sae.config import SaeConfig


def test_a_copied_model_and_a_copied_data_set_reuse_everything(service, tmp_path):
    register_small(service, n_classes=2)
    first = plan_small(service, layers=(1,))
    assert run_jobs(service, first) == ["succeeded"] * len(first.jobs)
    images = copied(link_classes(service.folder, 2), tmp_path / "images")
    register(service, "copy", images)
    model = copied(backbone_folder(), tmp_path / "model")
    second = plan_small(service, "copy", layers=(1,), model=str(model))
    assert [(job.id, job.status) for job in second.jobs] == [(job.id, "reused") for job in first.jobs]
    assert second.to_notify == ()


def test_only_the_layers_that_are_missing_are_extracted(service):
    register_small(service, n_classes=2)
    third = plan_small(service, layers=(3,))
    assert statuses(third) == [(kind, "new") for kind in default_kinds()]
    assert run_jobs(service, third) == ["succeeded"] * len(third.jobs)
    both = plan_small(service, layers=(1, 3))
    of_layer = kinds_per("layer") + kinds_per("sae")
    assert statuses(both) == [
        ("extract", "reused"), ("extract", "new"),
        *((kind, "new") for kind in of_layer), *((kind, "reused") for kind in of_layer), ("compare", "new"),
    ]  # fmt: skip
    new = next(job for job in both.jobs if (job.kind, job.status) == ("extract", "new"))
    assert "layer 1 " in new.title
    assert job_row(service, new.id).request["layers"] == [1]
    assert notified(both) == [new.id]
    ran = ["not queued" if job.status == "reused" else "succeeded" for job in both.jobs]
    assert run_jobs(service, both) == ran
    with transaction(service.sessions) as session:
        published = session.execute(select(ActivationSet.layer, ActivationSet.job_id, ActivationSet.n_rows)).all()
    assert sorted(published) == [(1, new.id, 8), (3, third.jobs[0].id, 8)]
    assert {status for _, status in statuses(plan_small(service, layers=(3, 1, 1)))} == {"reused"}


def test_what_is_under_way_is_joined(service):
    register_small(service, n_classes=2)
    first = plan_small(service, layers=(1,))
    second = plan_small(service, layers=(1, 2))
    # The comparison of another set of analyses is another one.
    assert [job.id for job in second.jobs if job.status == "joined"] == [job.id for job in first.jobs[:-1]]
    assert notified(first) == [first.jobs[0].id]
    (new_extraction,) = [job for job in second.jobs if (job.kind, job.status) == ("extract", "new")]
    assert notified(second) == [new_extraction.id]


def test_the_default_data_set_is_the_first_one_registered(service):
    for name, n_classes in (("zebra", 2), ("ant", 3)):
        folder = link_classes(service.folder / name, n_classes)
        register(service, name, folder)
    assert plan_small(service, None, layers=(1,)).dataset.name == "zebra"
    register(service, "zebra", link_classes(service.folder / "z", 2))
    assert plan_small(service, None, layers=(1,)).dataset.name == "zebra"


def test_a_study_knows_all_its_jobs_and_which_were_there_before(service):
    register_small(service, n_classes=2)
    first = plan_small(service, layers=(1,))
    second = plan_small(service, layers=(1, 2))
    with transaction(service.sessions) as session:
        rows = session.execute(text("SELECT study_id, job_id, reused FROM study_job")).all()
    for plan in (first, second):
        found = {row.job_id: row.reused for row in rows if row.study_id == plan.study_id}
        assert found == {job.id: job.status != "new" for job in plan.jobs}


def test_all_layers(service):
    register_small(service, n_classes=2)
    plan = plan_small(service, layers="all")
    assert plan.layers == tuple(range(6))
    assert [job.kind for job in plan.jobs] == default_kinds(n_layers=6)
    assert "layer 0-5 " in plan.jobs[0].title


def counts(service):
    with transaction(service.sessions) as session:
        tables = ("study", "study_job", "job", "job_dependency", "job_event", "activation_set", "model")
        return {table: session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables}


def test_a_preview_is_what_a_submit_does_and_enters_nothing(service):
    register_small(service, n_classes=2)
    saes = (TINY_SAE, SaeConfig(kind="relu", n_steps=30))
    for layers in ((1,), (1, 3), (1, 3)):
        request = small_request(layers=layers, saes=saes)
        before = counts(service)
        shown = preview(request, service.settings, service.sessions)
        assert counts(service) == before
        entered = submit(request, service.settings, service.sessions)
        assert not entered.differs_from(shown)
        assert [(job.key, job.title, job.status, job.state, job.layers, job.sae) for job in shown.jobs] == [
            (job.key, job.title, job.status, job.state, job.layers, job.sae) for job in entered.jobs
        ]
        assert shown.n_queued == entered.n_queued
    stale = preview(small_request(layers=(2,), saes=saes), service.settings, service.sessions)
    submit(small_request(layers=(2,), saes=saes), service.settings, service.sessions)
    assert submit(small_request(layers=(2,), saes=saes), service.settings, service.sessions).differs_from(stale)


def test_an_sae_that_is_asked_for_twice_is_made_once(service):
    register_small(service, n_classes=2)
    plan = plan_small(service, layers=(1,), saes=(TINY_SAE, TINY_SAE, SaeConfig(**TINY_SAE.model_dump())))
    assert statuses(plan) == [(kind, "new") for kind in default_kinds()]


def test_titles_tell_saes_apart(service):
    register_small(service, n_classes=2)
    plan = plan_small(
        service, layers=(1,), saes=tuple(SaeConfig(kind="topk", k=k, seed=s) for k in (8, 32) for s in (0, 1))
    )
    titles = [job.title for job in plan.jobs if job.kind == "train"]
    assert titles == [
        f"train topk SAE x8{label} of dinov2-emoji layer 1" for label in (" (k=8)", " (k=8, seed=1)", "", " (seed=1)")
    ]


def test_titles_tell_activations_and_scorings_apart(service):
    register_small(service, n_classes=2)
    extraction = ExtractionConfig(tokens="mean", n_views=2, batch_size=20)
    scoring = ScoringConfig(threshold=0.5, controls=())
    plan = plan_small(service, layers=(1,), extraction=extraction, scoring=scoring)
    what = "topk SAE x2 (k=4, n_steps=30) of dinov2-emoji layer 1, mean (n_views=2)"
    assert [job.title for job in plan.jobs if job.kind in {"train", "analyze"}] == [
        f"train {what}",
        f"analyze {what} on small (threshold=0.5, controls=none, in-sample)",
    ]
    assert plan.jobs[0].title.startswith("extract mean (n_views=2) of dinov2-emoji layer 1")


def test_a_higher_priority_is_taken_over_and_rung_for(service):
    register_small(service, n_classes=2)
    first = plan_small(service, layers=(1,), priority=2)
    lower = plan_small(service, layers=(1,), priority=0)
    assert lower.to_notify == ()
    higher = plan_small(service, layers=(1,), priority=7)
    assert [(notification.job_id, notification.priority) for notification in higher.to_notify] == [
        (first.jobs[0].id, 7)
    ]
    assert {job_row(service, job.id).priority for job in first.jobs} == {7}


def test_too_many_jobs_are_refused(service):
    saes = tuple(SaeConfig(seed=seed) for seed in range(MAX_JOBS // 4 - 1))
    assert check_model(small_request(layers=(1, 2), saes=saes), service.settings)
    with pytest.raises(UserError, match=f"more than the {MAX_JOBS} of one study"):
        check_model(small_request(layers=(1, 2, 3), saes=saes), service.settings)


@contextmanager
def crowded(service, n_left: int) -> Iterator[None]:
    """Other clients hold all of the server's connections but some."""
    url = service.settings.database_url.get_secret_value()
    held: list[psycopg.Connection[Any]] = []
    try:
        with suppress(psycopg.OperationalError):
            while True:
                held.append(psycopg.connect(url))
        for _ in range(n_left):
            held.pop().close()
        yield
    finally:
        for connection in held:
            connection.close()


def test_more_submits_at_once_than_the_server_has_connections_enter_one_set_of_jobs(service):
    register_small(service, n_classes=2)
    request = small_request(layers=(1, 3), saes=(TINY_SAE, SaeConfig(kind="relu", n_steps=30)))
    checked = check_model(request, service.settings)
    n_submits = 20  # sixty at once stand among the slow tests

    def one(_):
        engine = connect(service.settings)  # each has a connection of its own, as processes have
        try:
            return submit(request, service.settings, session_factory(engine), checked=checked)
        finally:
            engine.dispose()

    with crowded(service, n_left=4), ThreadPoolExecutor(n_submits) as pool:
        plans = list(pool.map(one, range(n_submits)))
    assert len({tuple(sorted(job.id for job in plan.jobs)) for plan in plans}) == 1
    assert sum(len(plan.to_notify) for plan in plans) == 1
    n_jobs = len(plans[0].jobs)
    assert sorted(plan.n_queued for plan in plans) == [0] * (n_submits - 1) + [n_jobs]
    with transaction(service.sessions) as session:
        assert session.query(Job).count() == n_jobs
        n_of = Counter(job.kind for job in plans[0].jobs)  # who waits for whom: one extraction, two layers, two SAEs
        n_inputs = {"probe": 1, "train": 1, "analyze": 2, "compare": n_of["analyze"]}
        assert session.query(JobDependency).count() == sum(n_of[kind] * n for kind, n in n_inputs.items())
        assert session.query(JobEvent).count() == n_jobs
        assert session.query(Study).count() == 1
