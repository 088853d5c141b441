"""Stage intervene as a job: its tokens, ended attempts, and one line for what cannot be had."""

import re
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from sqlalchemy import text
from tests.devices.emulated_cuda import COPY, CUDA, EmulatedCuda, EmulatedTensor
from tests.pipeline.in_process import attempt, job_id, run_jobs
from tests.pipeline.stages.interventions.small_plans import EDITS, QUICK, plan_interventions, query
from tests.relevancy.small_backbones import saved
from tests.small import register_small

from hsae.backbones.backbone import Backbone
from hsae.catalog import transaction
from hsae.devices.errors import OutOfDeviceMemoryError
from hsae.extraction.config import ExtractionConfig
from hsae.interventions.config import InterveneSettings
from hsae.interventions.measure import measure
from hsae.pipeline.stages.interventions import intervene as stage


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["patches", "mean"])
def test_other_tokens_and_attribution(service, tokens):
    register_small(service, n_classes=30)
    settings = InterveneSettings(
        nodes=("bird.n.01",), choose="attribution", n_latents=6, max_density=1.0, readouts=("probe",), n_random=1,
        edit="add", doses=(-4.0, 4.0),
    )  # fmt: skip
    plan = plan_interventions(service, settings, sae=QUICK, tokens=tokens)
    assert set(run_jobs(service, plan)) == {"succeeded"}
    rows = {(row["arm"], row["dose"]): row for row in query(service, EDITS)}
    assert set(rows) == {(arm, dose) for arm in ("latents", "random") for dose in (-4.0, 4.0)}
    assert rows["latents", -4.0]["specificity_log_odds"] > rows["latents", 4.0]["specificity_log_odds"]


@pytest.mark.slow
def test_an_ended_attempt_leaves_nothing_and_the_next_has_the_same_rows(service):
    register_small(service, n_classes=30)
    settings = InterveneSettings(
        nodes=("bird.n.01",), choose="selectivity", max_density=1.0, n_shuffles=9, n_random=1, batch_size=8
    )
    plan = plan_interventions(service, settings, sae=QUICK)
    run_jobs(service, plan, "extract", "train", "analyze")
    number = job_id(plan, "intervene")
    with attempt(service, number, stop_at=8) as (request, context), pytest.raises(OSError, match="at 8 of"):
        stage.intervene(request, context)
    assert query(service, "SELECT id FROM intervention_set") == []
    with attempt(service, number) as (request, context):
        summary = stage.intervene(request, context)
    rows = query(service, EDITS)
    with attempt(service, number) as (request, context):  # the worker died after publishing: nothing is made again
        assert stage.intervene(request, context) == summary
    with transaction(service.sessions) as session:
        session.execute(text("DELETE FROM intervention_set"))
    with attempt(service, number) as (request, context):
        stage.intervene(request, context)
    again = query(service, EDITS)
    assert [row | {"intervention_set_id": 0} for row in again] == [row | {"intervention_set_id": 0} for row in rows]
    job = query(service, "SELECT title, queue, progress_unit FROM job WHERE kind = 'intervene'")
    assert job == [
        {
            "title": "intervene on topk SAE x2 (k=8, n_steps=60) of dinov2-emoji layer 3 on small (nodes=bird.n.01,"
            " choose=selectivity, max_density=1.0, n_random=1, n_shuffles=9, batch_size=8)",
            "queue": "gpu",
            "progress_unit": "images",
        }
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"nodes": ("entity.n.01",)}, "entity.n.01 has all classes under it, so that nothing is outside"),
        ({"choose": "given", "latents": (5, 384)}, "latent 384 is of another SAE: this one has 384 latents, 0 to 383"),
        ({"start": "stored"}, "layer 3 has no stored tokens that a pass could start from: only cls of"),
        ({"readouts": ("classifier",)}, "has no classifier of its own: leave the readout classifier out"),
        ({"readouts": ("zero_shot",)}, "dinov2-emoji is of type dinov2 and has no text tower: choose"),
        ({"tokens": (0, 70)}, "has no token 70: give numbers from 0 to 64"),
    ],
)
def test_what_cannot_be_had_is_one_line(refusing, changes, line):
    service = refusing
    settings = InterveneSettings(**{"nodes": ("bird.n.01",), "n_shuffles": 9, **changes})
    plan = plan_interventions(service, settings, sae=QUICK)
    assert run_jobs(service, plan, "intervene") == ["failed"]
    (job,) = query(service, "SELECT error FROM job WHERE id = :id", id=job_id(plan, "intervene"))
    assert line in job["error"]
    assert "\n" not in job["error"].strip()
    assert "Traceback" not in job["error"]


@pytest.fixture(scope="module")
def refusing(make_service):
    """An analysis of layer 3, on which no interventions were made."""
    service = make_service()
    register_small(service, n_classes=30)
    plain = plan_interventions(service, InterveneSettings(), sae=QUICK)
    assert "intervene" not in {job.kind for job in plain.jobs}
    assert set(run_jobs(service, plain)) == {"succeeded"}
    return service


SMALL = InterveneSettings(
    nodes=("bird.n.01",), choose="attribution", max_density=1.0, n_latents=4, n_random=1, n_shuffles=9, batch_size=8,
    label_effects=2, steer=2, steer_images=8,
)  # fmt: skip


@contextmanager
def small_job(service, **changes):
    """(request, context) of an attempt; `changes` of the extraction, of which the stored activations know nothing."""
    plan = plan_interventions(service, SMALL, sae=QUICK)
    with attempt(service, job_id(plan, "intervene")) as (request, context):
        yield request.model_copy(update={"extraction": request.extraction.model_copy(update=changes)}), context


def rows_and_forget(service):
    """What the one set says, without its number; it is deleted."""
    tables = (
        "intervention", "intervention_readout", "intervention_effect", "latent_effect", "intervention_steerability",
    )  # fmt: skip
    rows = [row for table in tables for row in query(service, f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4")]
    with transaction(service.sessions) as session:
        session.execute(text("DELETE FROM intervention_set"))
    return [{name: value for name, value in row.items() if name not in ("intervention_set_id", "id")} for row in rows]


@pytest.mark.slow
def test_memory_that_lacks_changes_no_bits_or_says_what_to_do(refusing, monkeypatch):
    sizes: list[int] = []
    failing_at: set[int] = set()
    plain, load = Backbone.recorded, Backbone.load
    precisions: list[str] = []

    def recorded(backbone, images):
        sizes.append(len(images))
        if len(sizes) in failing_at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return plain(backbone, images)

    def noted(*args, precision, **kwargs):
        precisions.append(precision)
        return load(*args, precision=precision, **kwargs)

    monkeypatch.setattr(Backbone, "recorded", recorded)
    monkeypatch.setattr(Backbone, "load", noted)
    with small_job(refusing, precision="bfloat16", part_images=4) as (request, context):
        stage.intervene(request, context)
        (config,) = [row["config"] for row in query(refusing, "SELECT config FROM intervention_set")]
        assert (config["precision"], config["part_images"]) == ("bfloat16", 4)
        expected = rows_and_forget(refusing)
        failing_at.add(len(sizes) + 2)
        with pytest.raises(torch.OutOfMemoryError):
            stage.intervene(request, context)
        context.back_off()
        stage.intervene(request, context)
        assert rows_and_forget(refusing) == expected
        assert (max(sizes), set(precisions)) == (4, {"bfloat16"})
        failing_at.add(len(sizes) + 1)
        line = "interventions on 4 images at once do not fit: write `intervene: {batch_size: 2}` in a study file"
        with pytest.raises(OutOfDeviceMemoryError, match=re.escape(line)):
            stage.intervene(request, context)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:User provided device_type")
def test_a_job_on_the_emulated_device_comes_to_the_same(refusing, monkeypatch):
    """No tensor on the wrong side; the host waits for readouts, and not for what it sends or for lengths."""
    with small_job(refusing) as (request, context):
        stage.intervene(request, context)
        expected = rows_and_forget(refusing)
        waits = []
        with EmulatedCuda() as cuda:

            def counted(batches, planned, reader, **kwargs):
                here = list(batches)
                assert {type(batch.stream) for batch in here} == {EmulatedTensor}
                cuda.reset()
                measured = measure(here, planned, reader, **kwargs)
                n_alone = sum(each.intervention.only_changed for each in planned)
                assert (n_alone, len(here)) == (4, 4)
                of_edits = 1 + len(planned)  # and the unedited images
                waits.append(Counter(cuda.waits))
                assert waits == [
                    {
                        COPY: len(here) * of_edits * len(reader.readouts) + of_edits + 1,  # lengths and mean at the end
                        "nonzero": len(here) * n_alone,  # which images a single latent changes
                        "tolist": len(here),  # the SAE's latents
                        "_local_scalar_dense": 1,  # the spread at the end
                    }
                ]
                return measured

            monkeypatch.setattr(stage, "measure", counted)
            context.device = CUDA
            stage.intervene(request, context)
        found = rows_and_forget(refusing)
    assert len(waits) == 1
    for row, other in zip(found, expected, strict=True):
        numbers = {name for name, value in other.items() if isinstance(value, float)}
        assert {name: row[name] for name in numbers} == pytest.approx({name: other[name] for name in numbers}, rel=1e-3)
        assert {name: row[name] for name in row.keys() - numbers} == {
            name: other[name] for name in row.keys() - numbers
        }


def test_a_node_without_latents_is_one_line(refusing):
    with transaction(refusing.sessions) as session:
        session.execute(text("UPDATE latent SET label_f1 = NULL"))
    plan = plan_interventions(refusing, InterveneSettings(nodes=("bird.n.01",), n_shuffles=9), sae=QUICK)
    assert run_jobs(refusing, plan, "intervene") == ["failed"]
    (job,) = query(refusing, "SELECT error FROM job WHERE id = :id", id=job_id(plan, "intervene"))
    assert "bird.n.01 has no latent: no label of this SAE is at or under it: choose by selectivity" in job["error"]


@pytest.mark.slow
def test_a_pass_from_stored_patches_is_one_from_the_images(service, tmp_path):
    """Of a backbone that has no token but patches; where not all of them are stored, passes begin at the images."""
    register_small(service, n_classes=12)
    folder = saved("siglip_vision_model", tmp_path)
    shared = {
        "nodes": ("bird.n.01",), "choose": "selectivity", "max_density": 1.0, "n_latents": 4, "doses": (0.0, 2.0),
        "controls": ("random", "neurons"), "n_random": 1, "n_shuffles": 9, "readouts": ("probe",), "batch_size": 7,
    }  # fmt: skip

    def made(start, **changes):
        """Where passes began, and the rows by arm and dose."""
        settings = InterveneSettings(start=start, **shared)
        plan = plan_interventions(
            service, settings, layers=(1,), sae=QUICK, tokens="patches", model=str(folder), **changes
        )
        run_jobs(service, plan)
        (job,) = query(service, "SELECT id, error FROM job WHERE id = :id", id=job_id(plan, "intervene"))
        if job["error"] is not None:
            return job["error"], {}
        (row,) = query(service, "SELECT id, start FROM intervention_set WHERE job_id = :id", id=job["id"])
        rows = [dict(row) for row in query(service, EDITS)]
        return row["start"], {
            (each["arm"], each["dose"]): {name: value for name, value in each.items() if name != "intervention_set_id"}
            for each in rows
            if each["intervention_set_id"] == row["id"]
        }

    begun, stored = made("stored")
    assert begun == "stored"
    assert set(stored) == {(arm, dose) for arm in ("latents", "random", "neurons") for dose in (0.0, 2.0)}
    assert min(row["moved_inside"] for row in stored.values()) > 0
    begun, passed = made("images")
    assert begun == "images"
    for edit, row in passed.items():
        numbers = {name for name, value in row.items() if isinstance(value, float)}
        assert stored[edit] == {name: pytest.approx(row[name], rel=1e-4, abs=1e-6) if name in numbers else row[name]
                                for name in row}  # fmt: skip
    assert made("auto") == ("stored", stored)
    few = ExtractionConfig(shard_images=40, batch_size=20, patches_per_image=4)
    begun, _ = made("auto", extraction=few)
    assert begun == "images"
    begun, _ = made("stored", extraction=few)
    assert "layer 1 has no stored tokens that a pass could start from: only a sample of 4 patches of" in begun
