"""The same request is the same study, and a preview takes no number of the catalog."""

import shutil

from sqlalchemy import select, text, update
from tests.pipeline.in_process import plan_small, run_jobs
from tests.pipeline.planning.planned import copied, statuses
from tests.small import link_classes, quick_scoring, register, register_small, small_request

from hsae.catalog import Job, Study, StudyJob, transaction
from hsae.catalog.queries.studies import list_studies
from hsae.catalog.server.migrate import downgrade, upgrade
from hsae.demo import backbone_folder
from hsae.extraction.config import ExtractionConfig
from hsae.hierarchy.config import ComparisonConfig
from hsae.pipeline.planning.submit import preview
from hsae.sae.config import SaeConfig


def study_rows(service):
    with transaction(service.sessions) as session:
        return session.scalars(select(Study).order_by(Study.id)).all()


def test_the_same_request_is_the_same_study(service, tmp_path):
    register_small(service, n_classes=2)
    first = plan_small(service)
    (before,) = study_rows(service)
    again = plan_small(service, layers=(3, 1), priority=3)  # while its jobs are under way, listed in another order
    assert (first.is_new, again.is_new) == (True, False)
    assert again.study_id == first.study_id
    assert [(job.id, job.status) for job in again.jobs] == [(job.id, "joined") for job in first.jobs]
    (row,) = study_rows(service)
    assert row.submitted_at > before.submitted_at
    assert row.created_at == before.created_at
    assert (row.request["dataset"], row.request["layers"], row.request["priority"]) == ("small", [1, 3], 3)
    with transaction(service.sessions) as session:
        session.execute(update(Job).values(state="failed"))
    failed = plan_small(service, model=str(copied(backbone_folder(), tmp_path / "model")))
    assert failed.study_id == first.study_id
    assert [(job.id, job.status) for job in failed.jobs] == [(job.id, "again") for job in first.jobs]
    images = link_classes(service.folder, 2)
    register(service, "copy", images)
    others = (
        {"layers": (1,)}, {"saes": (SaeConfig(k=5, kind="topk"),)}, {"scoring": quick_scoring(threshold=0.5)},
        {"comparison": ComparisonConfig(confidence=0.9)}, {"extraction": ExtractionConfig(n_views=2)},
        {"dataset": "copy"},
    )  # fmt: skip
    assert len({first.study_id, *(plan_small(service, **other).study_id for other in others)}) == 1 + len(others)


def test_a_study_has_the_latest_name_that_it_was_given(service):
    register_small(service, n_classes=2)
    plans = [plan_small(service, name=name) for name in (None, "widths", None, "seeds")]
    assert [(plan.former_name, plan.name) for plan in plans] == [
        ("dinov2-emoji on small", "dinov2-emoji on small"), ("dinov2-emoji on small", "widths"), ("widths", "widths"),
        ("widths", "seeds"),
    ]  # fmt: skip
    assert [(row.id, row.name) for row in study_rows(service)] == [(plans[0].study_id, "seeds")]


def test_a_study_whose_layers_others_make_by_now_has_the_jobs_that_make_them(service, tmp_path):
    images = copied(link_classes(service.folder, 2), tmp_path / "images")
    register(service, "small", images)
    shutil.move(images, tmp_path / "away")
    both = plan_small(service, layers=(1, 3))
    assert run_jobs(service, both, "extract") == ["failed"]
    shutil.move(tmp_path / "away", images)
    fewer = plan_small(service, layers=(1,))
    again = plan_small(service, layers=(1, 3))
    assert again.study_id == both.study_id
    assert statuses(again)[:2] == [("extract", "joined"), ("extract", "new")]
    assert again.jobs[0].id == fewer.jobs[0].id
    with transaction(service.sessions) as session:
        linked = session.scalars(select(StudyJob.job_id).where(StudyJob.study_id == both.study_id)).all()
    assert sorted(linked) == sorted(job.id for job in again.jobs)


def test_a_preview_takes_no_number_and_knows_the_study(service):
    register_small(service, n_classes=2)

    def taken():
        with transaction(service.sessions) as session:
            return dict(
                tuple(row) for row in session.execute(text("SELECT sequencename, last_value FROM pg_sequences"))
            )

    before = taken()
    request = small_request(layers=(1, 3))
    assert preview(request, service.settings, service.sessions).study_id is None
    assert taken() == before
    plan = plan_small(service, scoring=request.scoring, saes=request.saes, extraction=request.extraction)
    assert plan.study_id == 1
    assert plan.jobs[0].id == 1
    between = taken()
    assert preview(request, service.settings, service.sessions).study_id == 1
    assert taken() == between


def test_studies_of_earlier_versions_are_found_by_their_request(service):
    """Before, every submit was a study: the latest of one request is found again, the others stay as they are."""
    register_small(service, n_classes=2)
    plans = [plan_small(service), plan_small(service, layers=(1,))]
    with transaction(service.sessions) as session:
        session.execute(text("INSERT INTO study (name, request) SELECT 'again', request FROM study WHERE id = 1"))
        session.execute(text("INSERT INTO study (name, request) VALUES ('lost its jobs', '{}')"))
        session.execute(text("INSERT INTO study_job SELECT 3, job_id, true FROM study_job WHERE study_id = 1"))
        session.execute(text("UPDATE study SET created_at = created_at - interval '1 day'"))
    before = [(row.id, row.created_at) for row in study_rows(service)]
    engine = service.sessions.kw["bind"]
    downgrade(engine, "0009")
    upgrade(engine)
    rows = study_rows(service)
    assert [(row.id, row.submitted_at) for row in rows] == before
    assert [row.request_key is None for row in rows] == [True, False, False, True]
    assert [plan_small(service).study_id, plan_small(service, layers=(1,)).study_id] == [3, plans[1].study_id]
    with transaction(service.sessions) as session:
        assert [row["name"] for row in list_studies(session)][-2:] == ["again", "dinov2-emoji on small"]
