"""Stage compare: what it makes of known rows, and how it behaves in a study."""

import numpy as np
import pytest
from sqlalchemy import select, text, update
from tests.pipeline.in_process import TINY_SAE, attempt, job_id, run_jobs
from tests.planted_scores import SCORES, plant
from tests.small import all_results, register_small, small_request

from hsae.catalog import Dataset, Job, JobDependency, StudyJob, transaction
from hsae.catalog.findings.study_inputs import BestF1
from hsae.extraction.config import ExtractionConfig
from hsae.hierarchy.config import ComparisonConfig, ScoringConfig
from hsae.hierarchy.study.bootstrap import resampled_means
from hsae.pipeline.execution.run import run_job
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.kinds.compare import CompareRequest
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.stages.compare import compare, node_values
from hsae.sae.config import SaeConfig

# entity.n.01 holds every image, which is why it does not count; the others in the order of their wnids.
NODES = ("animal.n.01", "pet.n.01", "dog.n.01", "cow.n.01", "doll.n.01")
CONFIG = ComparisonConfig(seed=4, n_resamples=200, confidence=0.9)
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


def _best(analysis, basis):
    """Best F1 of the nodes in their order; a node without a row has 0, and so has a seed."""
    seeds = [key for key in SCORES if key[:2] == (analysis, basis)]
    return np.array([[SCORES[key].get(node, 0.0) for node in NODES] for key in seeds])


def test_quantities_over_nodes(planted):
    rows = rows_of(planted, "SELECT * FROM comparison_score WHERE metric IN ('best_f1_mean', 'share_nodes_f1')")
    assert {(row["analysis_id"], row["basis"]) for row in rows} == {key[:2] for key in SCORES}
    assert len(rows) == 2 * len({key[:2] for key in SCORES})
    for row in rows:
        by_seed = _best(row["analysis_id"], row["basis"])
        values = (by_seed if row["metric"] == "best_f1_mean" else by_seed >= 0.5).mean(0)
        means = resampled_means(values[:, None], n_resamples=200, seed=4)[:, 0]
        assert (row["value"], row["n"]) == (pytest.approx(values.mean()), 5), row
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95]))), row


def test_quantities_without_anything_are_null(planted):
    # No node that counts has three classes; of the latents only the label's F1 is known.
    for metric in ("best_f1_inner_mean", "lch_height_mean", "monosemanticity_mean"):
        rows = rows_of(planted, "SELECT * FROM comparison_score WHERE metric = :metric", metric=metric)
        assert rows
        for row in rows:
            assert (row["value"], row["ci_low"], row["ci_high"], row["n"]) == (None, None, None, 0)
    rows = rows_of(planted, "SELECT analysis_id, value, n FROM comparison_score WHERE metric = 'label_f1_mean'")
    assert {(row["analysis_id"], row["value"], row["n"]) for row in rows} == {(1, 0.9, 1), (2, 0.7, 1)}


def test_differences_over_nodes_are_paired(planted):
    rows = rows_of(planted, "SELECT * FROM comparison_difference WHERE metric = 'best_f1_mean'")
    found = {(r["analysis_id"], r["basis"], r["other_analysis_id"], r["other_basis"]): r for r in rows}
    expected = {
        (1, "sae", 1, "neuron"), (1, "sae", 1, "exemplar"), (1, "sae", 1, "random"),
        (1, "sae", 1, "shuffled_taxonomy"), (2, "sae", 2, "shuffled_taxonomy"), (2, "sae", 1, "sae"),
    }  # fmt: skip
    assert set(found) == expected
    for (analysis, basis, other, other_basis), row in found.items():
        apart = _best(analysis, basis).mean(0) - _best(other, other_basis).mean(0)
        means = resampled_means(apart[:, None], n_resamples=200, seed=4)[:, 0]
        assert (row["value"], row["n"]) == (pytest.approx(apart.mean()), 5)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])))


def test_the_row_of_the_comparison(planted):
    (row,) = rows_of(planted, "SELECT c.*, j.result, j.progress_unit FROM comparison c JOIN job j ON j.id = c.job_id")
    assert row["config"] == {"seed": 4, "n_resamples": 200, "confidence": 0.9}
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
        session.execute(text("DELETE FROM comparison_score WHERE analysis_id = 2"))
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
        scoring=ScoringConfig(n_shuffles=1),
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

    # The layer's row says the same; a basis of several seeds is their mean. Of random directions only the first draw
    # has latents.
    rows = rows_of(
        service,
        """SELECT v.value, avg(CASE v.metric WHEN 'best_f1_mean' THEN c.best_f1_mean
                                             WHEN 'best_f1_inner_mean' THEN c.best_f1_inner_mean
                                             WHEN 'share_nodes_f1' THEN c.share_nodes_f1
                                             WHEN 'lch_height_mean' THEN c.lch_height_mean
                                             ELSE c.coverage_mean END) AS of_layer
           FROM comparison_score v JOIN layer_score c USING (analysis_id, basis)
           WHERE v.metric IN ('best_f1_mean', 'best_f1_inner_mean', 'share_nodes_f1', 'lch_height_mean',
                              'coverage_mean')
             AND (c.basis <> 'random' OR c.seed = 0 OR v.metric NOT IN ('lch_height_mean', 'coverage_mean'))
           GROUP BY v.comparison_id, v.analysis_id, v.basis, v.metric, v.value""",
    )
    assert len(rows) == 2 * (3 * 9 + 2 * 7), "bases with nodes, and with latents of their own"
    for row in rows:
        assert row["value"] == pytest.approx(row["of_layer"], abs=1e-12)

    again = _submit(service, 1)
    assert {(job.id, job.status) for job in again.jobs} == {(job.id, "reused") for job in plan.jobs}
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
        ("analyze", "again"), ("compare", "again"),
    ]  # fmt: skip
    assert run_jobs(service, again, "analyze", "compare") == ["succeeded", "not queued", "succeeded"]


def test_nodes_without_scored_images_do_not_count():
    """Of a class whose images were all skipped no basis has a row; where another basis has one, this one has 0."""
    best = {
        1: [BestF1("sae", 0, "a", 0.8, False), BestF1("neuron", 0, "b", 0.4, False), BestF1("sae", 0, "c", 1, True)]
    }
    found = node_values(best, {1: {"sae": 1, "neuron": 1}}, {"a": 1, "b": 3, "c": 5, "skipped": 1})
    assert found.columns == [(1, "sae"), (1, "neuron")]
    assert found.f1.tolist() == [[0.8, 0], [0, 0.4]]
    assert found.is_inner.tolist() == [False, True]
