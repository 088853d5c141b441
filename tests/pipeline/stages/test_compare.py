"""Stage compare: what it makes of known rows, and how it behaves in a study."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, text, update
from tests.pipeline.in_process import TINY_SAE, attempt, job_id, run_jobs
from tests.planted_scores import SCORES, plant, replicates_of
from tests.small import all_results, quick_scoring, register_small, small_request

from hsae.catalog import Dataset, Job, JobDependency, StudyJob, transaction
from hsae.catalog.findings.scores import latent_rows
from hsae.catalog.queries.score_filter import LatentFilter
from hsae.extraction.config import ExtractionConfig
from hsae.hierarchy.config import ComparisonConfig
from hsae.pipeline.execution.run import run_job
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.kinds.compare import CompareRequest
from hsae.pipeline.planning.requests import with_seeds
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.stages.compare import compare
from hsae.sae.config import SaeConfig

CONFIG = ComparisonConfig(confidence=0.9)
KEYS = ("analysis-2", "analysis-5")


def rows_of(service, query, **values):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(query), values).mappings()]


def enter_job(service, keys=KEYS, comparison=CONFIG) -> int:
    """A queued comparison of the planted analyses, of study 1."""
    with transaction(service.sessions) as session:
        dataset = dataset_ref(session.scalars(select(Dataset)).one())
        request = CompareRequest(analyses=tuple(sorted(keys)), dataset=dataset, comparison=comparison)
        job = Job(key=request.key, kind="compare", title="compare", request=request.model_dump(mode="json"),
                  state="queued", queue="cpu", max_attempts=3)  # fmt: skip
        session.add(job)
        session.flush()
        session.add(StudyJob(study_id=1, job_id=job.id, reused=False))
        return job.id


@pytest.fixture(scope="module")
def planted(make_service):
    """A service with the planted analyses compared."""
    service = make_service()
    plant(service)
    job = enter_job(service)
    assert run_job(job, service.settings, "test") == "succeeded"
    return service


def _planted(analysis, basis):
    """Value and replicates, the mean over the seeds of a shuffle."""
    seeds = [key[2] for key in SCORES if key[:2] == (analysis, basis)]
    values, replicates = zip(*(replicates_of(analysis, basis, seed) for seed in seeds), strict=True)
    return np.mean(values), np.mean(replicates, axis=0)


def _bounds(value, replicates):
    reach = 1.6448536269514722 * 2 * np.std(replicates, ddof=1)  # 90 %
    return pytest.approx((value, value - reach, value + reach))


def test_quantities_have_the_intervals_of_their_replicates(planted):
    rows = rows_of(planted, "SELECT * FROM comparison_score WHERE metric = 'coherence_excess'")
    assert {(row["analysis_id"], row["basis"]) for row in rows} == {key[:2] for key in SCORES}
    for row in rows:
        assert (row["value"], row["ci_low"], row["ci_high"]) == _bounds(*_planted(row["analysis_id"], row["basis"]))
        assert (row["n"], row["n_seeds"]) == (150 - row["analysis_id"], 1)


def test_quantities_without_anything_are_null(planted):
    rows = rows_of(planted, "SELECT * FROM comparison_score WHERE metric = 'purity_mean'")
    assert rows
    for row in rows:
        assert (row["value"], row["ci_low"], row["ci_high"], row["n"]) == (None, None, None, 0)


def test_differences_are_paired_by_replicate(planted):
    rows = rows_of(planted, "SELECT * FROM comparison_difference WHERE metric = 'coherence_excess'")
    found = {(r["analysis_id"], r["basis"], r["other_analysis_id"], r["other_basis"]): r for r in rows}
    expected = {
        (1, "sae", 1, "neuron"), (1, "sae", 1, "exemplar"), (1, "sae", 1, "random"),
        (1, "sae", 1, "shuffled_taxonomy"), (2, "sae", 2, "shuffled_taxonomy"), (2, "sae", 1, "sae"),
    }  # fmt: skip
    assert set(found) == expected
    for (analysis, basis, other, other_basis), row in found.items():
        (value, replicates), (less, others) = _planted(analysis, basis), _planted(other, other_basis)
        assert (row["value"], row["ci_low"], row["ci_high"]) == _bounds(value - less, replicates - others)
        assert row["n"] == min(150 - analysis, 150 - other)


def test_trends_with_depth(planted):
    (row,) = rows_of(planted, "SELECT * FROM comparison_trend WHERE metric = 'coherence_excess'")
    (first, before), (last, after) = _planted(1, "sae"), _planted(2, "sae")
    assert (row["slope"], row["ci_low"], row["ci_high"]) == _bounds((last - first) / 3, (after - before) / 3)
    assert (row["analysis_id"], row["n_layers"], row["n_seeds"]) == (1, 2, 1)


def test_the_view_has_95_percent_intervals(planted):
    rows = rows_of(planted, "SELECT * FROM layer_interval WHERE metric = 'coherence_excess'")
    assert len(rows) == len(SCORES)
    for row in rows:
        value, replicates = replicates_of(row["analysis_id"], row["basis"], row["seed"])
        error = 2 * np.std(replicates, ddof=1)
        assert (row["se"], row["low"], row["high"]) == pytest.approx(
            (error, value - 1.96 * error, value + 1.96 * error)
        )
        assert row["n_replicates"] == 10


def test_the_row_of_the_comparison(planted):
    (row,) = rows_of(planted, "SELECT c.*, j.result, j.progress_unit FROM comparison c JOIN job j ON j.id = c.job_id")
    assert row["config"] == {"confidence": 0.9, "format": 2}
    assert row["result"]["comparison"] == row["id"]
    assert row["result"]["n_analyses"] == 2
    assert row["progress_unit"] in (None, "analyses")


def test_a_crash_after_publishing_compares_nothing_again_and_dropped_rows_are_made_anew(service):
    plant(service)
    job = enter_job(service)
    found = []
    for _ in range(2):
        with attempt(service, job) as given:
            found.append(compare(*given))
    assert found[0] == found[1]
    before = all_results(service)["comparison scores"]
    with transaction(service.sessions) as session:  # what the deletion of an analysis takes along
        session.execute(text("DELETE FROM comparison_analysis WHERE analysis_id = 2"))
    assert run_job(job, service.settings, "test") == "succeeded"
    assert all_results(service)["comparison scores"] == before
    assert len(rows_of(service, "SELECT id FROM comparison")) == 1


def test_a_missing_analysis_fails_the_job_in_one_line(service):
    plant(service)
    job = enter_job(service, keys=(*KEYS, "analysis-9"))
    assert run_job(job, service.settings, "test") == "failed"
    (row,) = rows_of(service, "SELECT error FROM job WHERE id = :id", id=job)
    assert row["error"] == "analysis analysis-9 is not there: submit the request again to make it"
    assert rows_of(service, "SELECT id FROM comparison") == []


def _submit(service, *layers, **changes):
    request = small_request(
        layers=layers,
        saes=(TINY_SAE, SaeConfig(kind="relu", expansion=2, n_steps=30)),
        extraction=ExtractionConfig(shard_images=8, batch_size=8),
        scoring=quick_scoring(n_shuffles=1, n_replicates=5, n_tree_shuffles=3),
        **changes,
    )
    return submit(request, service.settings, service.sessions)


def test_a_study_waits_for_all_analyses_and_shares_its_comparison(service):
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    number = job_id(plan, "compare")
    with transaction(service.sessions) as session:
        needs = session.scalars(select(JobDependency.depends_on_id).filter_by(job_id=number)).all()
        queue, title = session.execute(select(Job.queue, Job.title).where(Job.id == number)).one()
    assert sorted(needs) == sorted(job.id for job in plan.jobs if job.kind == "analyze")
    assert (queue, title) == ("cpu", "compare the analyses of dinov2-emoji layer 1 on small")
    *first, last = [job.id for job in plan.jobs if job.kind == "analyze"]
    run_jobs(service, plan, "extract", "train")
    for job in first:
        assert run_job(job, service.settings, "test") == "succeeded"
    assert run_jobs(service, plan, "compare") == ["not queued"]
    assert run_job(last, service.settings, "test") == "succeeded"
    assert run_jobs(service, plan, "compare") == ["succeeded"]

    rows = rows_of(
        service,
        """SELECT v.value, CASE WHEN count(r.value) = count(*) THEN avg(r.value) END AS of_analysis
           FROM comparison_score v JOIN layer_replicate r USING (analysis_id, basis, metric)
           GROUP BY v.comparison_id, v.analysis_id, v.basis, v.metric, v.value""",
    )
    assert len(rows) == 2 * 9 * 6, "SAEs, bases, headline numbers"
    for row in rows:
        assert row["value"] == (None if row["of_analysis"] is None else pytest.approx(row["of_analysis"]))

    again = _submit(service, 1)
    # Nothing waits for the probe, which did not run here.
    statuses = {(job.id, "joined" if job.kind == "probe" else "reused") for job in plan.jobs}
    assert {(job.id, job.status) for job in again.jobs} == statuses
    other = _submit(service, 1, comparison=ComparisonConfig(confidence=0.99))
    assert [(job.kind, job.state) for job in other.jobs if job.status == "new"] == [("compare", "queued")]
    assert run_jobs(service, other, "compare") == ["succeeded"]
    apart = rows_of(
        service, "SELECT comparison_id, sum(ci_high - ci_low) AS width FROM comparison_difference GROUP BY 1 ORDER BY 1"
    )
    assert apart[1]["width"] > apart[0]["width"]


def test_a_failed_analysis_ends_the_comparison_and_a_new_submit_fixes_both(service):
    register_small(service, n_classes=2)
    plan = _submit(service, 1)
    run_jobs(service, plan, "extract", "train")
    broken = next(job.id for job in plan.jobs if job.kind == "analyze")
    with transaction(service.sessions) as session:
        (request,) = session.scalars(select(Job.request).where(Job.id == broken))
        session.execute(update(Job).where(Job.id == broken).values(request=request | {"sae_key": "0" * 64}))
    assert run_jobs(service, plan, "analyze", "compare") == ["failed", "succeeded", "not queued"]
    (row,) = rows_of(service, "SELECT state, error FROM job WHERE kind = 'compare'")
    assert (row["state"], row["error"]) == ("failed", f"needs job {broken}, which failed")
    again = _submit(service, 1)
    assert [(job.kind, job.status) for job in again.jobs if job.status != "reused"] == [
        ("probe", "joined"), ("analyze", "again"), ("compare", "again"),
    ]  # fmt: skip
    assert run_jobs(service, again, "analyze", "compare") == ["succeeded", "not queued", "succeeded"]


def test_seeds_of_a_configuration_are_one_with_the_stability_of_its_latents(service):
    register_small(service, n_classes=3)
    scoring = quick_scoring(n_shuffles=0, n_replicates=5, n_tree_shuffles=3, controls=())
    request = small_request(layers=(1,), saes=with_seeds((TINY_SAE,), 3), scoring=scoring)
    plan = submit(request, service.settings, service.sessions)
    assert set(run_jobs(service, plan)) == {"succeeded"}
    scores = rows_of(service, "SELECT * FROM comparison_score")
    assert {(row["n_seeds"], row["basis"]) for row in scores} == {(3, "sae")}
    first = {row["analysis_id"] for row in scores}
    assert len(first) == 1
    members = rows_of(
        service,
        "SELECT i.sae_seed, c.first_analysis_id FROM comparison_analysis c JOIN analysis_input i USING (analysis_id)"
        " ORDER BY 1",
    )
    assert [row["sae_seed"] for row in members] == [0, 1, 2]
    assert {row["first_analysis_id"] for row in members} == first
    stability = rows_of(
        service,
        "SELECT t.analysis_id, e.n_latents, count(*) AS n, min(t.chance) AS chance, max(t.stability) AS best,"
        " bool_and(t.is_one_to_one) AS matched FROM latent_stability t JOIN analysis a ON a.id = t.analysis_id"
        " JOIN sae e ON e.id = a.sae_id GROUP BY 1, 2",
    )
    assert len(stability) == 3
    for row in stability:
        assert (row["n"], row["matched"]) == (row["n_latents"], True)
        assert 0 < row["chance"] < row["best"] <= 1.0001
    wanted: dict[str, Any] = {"analysis_ids": tuple(first), "basis": "sae", "limit": 50}
    with transaction(service.sessions) as session:
        everything = latent_rows(session, LatentFilter(**wanted))
        least = sorted(row["seed_stability"] for row in everything)[len(everything) // 2]
        stable = latent_rows(session, LatentFilter(**wanted, min_stability=least))
    assert everything
    assert all(row["stability_chance"] > 0 for row in everything)
    assert {row["latent"] for row in stable} >= {row["latent"] for row in everything if row["seed_stability"] >= least}
    assert min(row["seed_stability"] for row in stable) >= least
