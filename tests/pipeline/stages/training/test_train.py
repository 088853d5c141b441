"""The curve and the figures that a training writes, also when it is interrupted, cancelled or comes a second time."""

import re
from pathlib import Path

import pytest
from sqlalchemy import delete, select, text, update
from tests.pipeline.in_process import TINY_SAE, attempt, job_id, plan_small, run_jobs
from tests.small import register_small

from hsae.catalog import Job, Sae, SaeCurve, transaction
from hsae.pipeline.control.jobs import cancel
from hsae.pipeline.execution.run import run_job
from hsae.pipeline.kinds.train import TRAIN
from hsae.pipeline.stages.train import train

SAE = TINY_SAE.model_copy(update={"holdout_share": 0.4})


def curve(service):
    with transaction(service.sessions) as session:
        rows = session.execute(text("SELECT * FROM sae_curve ORDER BY sae_key, step")).mappings()
        return [{**row, "vectors_per_second": None} for row in rows], session.scalars(select(Sae)).all()


def plan_one(service, **changes):
    register_small(service, n_classes=12)
    return plan_small(service, layers=(1,), saes=(SAE,), **changes)


@pytest.fixture(scope="module")
def whole(make_service):
    """The curve and the row of a training that nobody disturbed."""
    service = make_service()
    plan = plan_one(service)
    assert run_jobs(service, plan, "extract", "train") == ["succeeded"] * 2
    with transaction(service.sessions) as session:
        note = session.get_one(Job, job_id(plan, "train")).progress_note
    rows, (sae,) = curve(service)
    return service, rows, sae, note


def test_curve_and_figures_of_a_training(whole):
    _, rows, sae, note = whole
    assert [row["step"] for row in rows][-1] == sae.n_steps == 30
    assert len(rows) == 10
    assert {row["sae_key"] for row in rows} == {sae.key}
    assert {row["job_id"] for row in rows} == {sae.job_id}
    last = rows[-1]
    assert (last["fvu"], last["train_fvu"]) == (pytest.approx(sae.fvu), pytest.approx(sae.train_fvu))
    assert (last["l0"], last["train_l0"]) == (sae.l0, sae.train_l0)
    assert last["loss"] == sae.metrics["loss"]
    assert note == f"loss {last['loss']:.4g}, FVU {last['fvu']:.3f}, L0 {last['l0']:.1f}"
    for quantiles in (sae.l0_quantiles, sae.train_l0_quantiles):
        assert quantiles == sorted(quantiles)
        assert len(quantiles) == 5
    for histogram in (sae.density_histogram, sae.train_density_histogram):
        assert sum(histogram) == sae.n_latents
    assert sae.density_histogram[0] / sae.n_latents == pytest.approx(sae.holdout_dead_share)
    assert sae.cknna > sae.cknna_shuffled
    assert 0 < sae.decoder_coherence < sae.decoder_coherence_max <= 1
    assert 0 < sae.decoder_coherence_random < 1
    assert 0 <= sae.class_accuracy_chance < sae.class_accuracy <= 1
    assert 0 <= sae.class_accuracy_reconstructed <= 1
    assert sae.metrics["evaluation"]["holdout"]["l0_quantiles"] == sae.l0_quantiles
    assert sae.metrics["evaluation"]["train"]["cknna"] == sae.train_cknna
    assert sae.metrics["classes"]["class_accuracy"] == sae.class_accuracy


def test_an_interrupted_training_ends_with_the_same_rows(make_service, whole):
    service = make_service(checkpoint_seconds=0)
    plan = plan_one(service)
    run_jobs(service, plan, "extract")
    number = job_id(plan, "train")
    stop_at = 17 * whole[2].metrics["batch_size"]
    with attempt(service, number, stop_at=stop_at) as given, pytest.raises(OSError, match="stopped by the test"):
        train(*given)
    before, _ = curve(service)
    with transaction(service.sessions) as session:
        assert session.get_one(Job, number).checkpoint is not None
    assert before == [row | {"job_id": number} for row in whole[1] if row["step"] <= 16]  # all before the checkpoint
    with transaction(service.sessions) as session:  # as if a lost worker had gone on from the checkpoint
        session.add(SaeCurve(**before[0] | {"step": 28}))
    assert run_job(number, service.settings, "test") == "succeeded"
    after, (sae,) = curve(service)
    assert after == [row | {"job_id": number} for row in whole[1]]
    assert sae.metrics == whole[2].metrics
    assert sae.weights_sha256 == whole[2].weights_sha256


def test_a_cancelled_training_leaves_no_points(make_service):
    service = make_service(checkpoint_seconds=0)
    plan = plan_one(service)
    run_jobs(service, plan, "extract")
    number = job_id(plan, "train")
    with attempt(service, number, stop_at=600) as given, pytest.raises(OSError, match="stopped by the test"):
        train(*given)
    assert curve(service)[0]
    cancel(service.sessions, service.store, [number], "test")
    assert curve(service)[0] == []


def test_the_points_of_a_published_sae_stay_and_go_with_its_job(whole):
    service, rows, sae, _ = whole
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == sae.job_id).values(state="cancelled"))
    with transaction(service.sessions) as session:
        request = TRAIN.request.model_validate(session.get_one(Job, sae.job_id).request)
        TRAIN.forget(request, sae.job_id, session)
    assert len(curve(service)[0]) == len(rows)
    with service.sessions() as session:
        session.execute(delete(Sae).where(Sae.id == sae.id))
        session.execute(text("DELETE FROM job_dependency"))
        session.execute(delete(Job).where(Job.id == sae.job_id))
        assert session.execute(select(SaeCurve)).all() == []
        session.rollback()


def test_the_queries_of_the_cookbook_find_it(whole):
    cookbook = (Path(__file__).parents[4] / "docs" / "sql.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", cookbook, flags=re.DOTALL)
    of_trainings = [query for query in queries if "cknna" in query or "sae_curve" in query]
    assert len(of_trainings) == 2
    # Scored is nothing here: the SAE stands for its analysis.
    without = "(SELECT id AS sae_id, 1 AS layer, kind AS sae_kind, 1 AS analysis_id FROM sae) i"
    with transaction(whole[0].sessions) as session:
        for query in of_trainings:
            (row,) = session.execute(text(query.replace("analysis_input i", without))).mappings()
            assert row["sae_id"] == whole[2].id
            assert None not in row.values()
