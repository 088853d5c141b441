"""Which activation set the monosemanticity score compares images in, who makes it, and how it is read."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from tests.pipeline.in_process import TINY_SAE, job_id, run_jobs
from tests.small import quick_scoring, register_small, small_request

from hsae.backbones.inspection import inspect_backbone
from hsae.catalog import ActivationSet, Job, JobDependency, transaction
from hsae.demo import backbone_folder
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.analyze import AnalyzeRequest
from hsae.pipeline.kinds.extract import ExtractRequest
from hsae.pipeline.planning.embeddings import last_layer
from hsae.pipeline.planning.submit import preview, submit
from hsae.pipeline.stages import activation_reader as activations
from hsae.pipeline.stages.activation_reader import read_embeddings

LAST = 5
SMALL = ExtractionConfig(shard_images=8, batch_size=8)


def plan_of(service, *layers, given="last", enter=False, **changes):
    """A preview (or a submit) and the requests of its jobs by kind."""
    request = small_request(
        **{
            "layers": layers or "all",
            "saes": (TINY_SAE,),
            "scoring": quick_scoring(embeddings=given),
            "extraction": SMALL,
            **changes,
        }
    )
    return (submit if enter else preview)(request, service.settings, service.sessions)


def requests_of(service, plan, kind):
    with transaction(service.sessions) as session:
        return [session.get_one(Job, job.id).request for job in plan.jobs if job.kind == kind]


@pytest.fixture(scope="module")
def ready(make_service):
    service = make_service()
    register_small(service, n_classes=2)
    return service


@pytest.fixture(scope="module")
def spec():
    return inspect_backbone(str(backbone_folder()))


def key_of(spec, plan, layer, extraction=SMALL):
    return ExtractRequest(model=spec, dataset=plan.dataset, layers=(layer,), extraction=extraction).activation_key(
        layer
    )


def test_the_last_layer_joins_the_pass_and_every_analysis_waits_for_it(service, spec):
    register_small(service, n_classes=2)
    plan = plan_of(service, 1, enter=True)
    assert [job.kind for job in plan.jobs if job.kind in ("extract", "train", "analyze")] == [
        "extract", "train", "analyze",
    ]  # fmt: skip
    (extraction,) = requests_of(service, plan, "extract")
    assert extraction["layers"] == [1, LAST]
    assert plan.layers == (1,)
    assert plan.embeddings == "cls of dinov2-emoji layer 5"
    (analysis,) = requests_of(service, plan, "analyze")
    assert analysis["embedding_key"] == key_of(spec, plan, LAST)
    with transaction(service.sessions) as session:
        needs = session.scalars(select(JobDependency.depends_on_id).filter_by(job_id=job_id(plan, "analyze"))).all()
    assert set(needs) == {job_id(plan, "train"), job_id(plan, "extract")}
    # Another layer finds it there.
    (other,) = [job for job in plan_of(service, 2, enter=True).jobs if (job.kind, job.status) == ("extract", "new")]
    assert other.layers == (2,)


def test_all_layers_cost_no_further_extraction(service):
    register_small(service, n_classes=2)
    plan = plan_of(service, enter=True, extraction=SMALL.model_copy(update={"n_views": 2}))
    (extraction,) = requests_of(service, plan, "extract")
    assert extraction["layers"] == [0, 1, 2, 3, 4, 5]
    analyses = [AnalyzeRequest.model_validate(request) for request in requests_of(service, plan, "analyze")]
    assert [analysis.embedding_key is None for analysis in analyses] == [False] * 5 + [True]
    assert {analysis.embedding_key for analysis in analyses[:5]} == {analyses[5].activation_key}
    assert len({analysis.config["embeddings"] for analysis in analyses}) == 1


def test_other_tokens_than_the_class_token_need_a_pass_of_their_own(service):
    register_small(service, n_classes=2)
    extraction = ExtractionConfig(tokens="patches", shard_images=8, n_views=2, seed=3)
    plan = plan_of(service, 1, enter=True, extraction=extraction)
    own, last = requests_of(service, plan, "extract")
    assert (own["layers"], own["extraction"]["tokens"]) == ([1], "patches")
    assert (last["layers"], last["extraction"]["tokens"], last["extraction"]["n_views"]) == ([LAST], "cls", 1)
    assert [job.layers for job in plan.jobs if job.kind == "extract"] == [(1,), (LAST,)]


def test_a_model_without_a_class_token_has_the_mean_of_its_patches(spec):
    dataset = DatasetRef(id=1, name="a", root="/a", fingerprint="f", listing_sha256="a", taxonomy_key="b")
    without = spec.model_copy(update={"has_class_token": False})
    mean = ExtractionConfig(tokens="mean", n_views=3)
    assert last_layer(without, dataset, mean).extraction == mean
    for tokens in ("patches", "cls"):
        given = ExtractionConfig(tokens=tokens, dtype="bfloat16", n_views=3)
        assert last_layer(without, dataset, given).extraction == ExtractionConfig(tokens="mean", dtype="bfloat16")
    assert last_layer(spec, dataset, mean).extraction == ExtractionConfig()
    assert last_layer(spec, dataset, mean).layers == (LAST,)


def test_own_embeddings_need_nothing_else(ready):
    plan = plan_of(ready, 1, given="own")
    assert [job.layers for job in plan.jobs if job.kind == "extract"] == [(1,)]
    assert plan.embeddings == "activations of the analysed layer itself"


def test_a_set_is_named_by_number_or_key_and_the_analysis_is_the_same(service, spec):
    register_small(service, n_classes=2)
    last = plan_of(service, 1, enter=True)
    key = key_of(spec, last, LAST)
    with transaction(service.sessions) as session:
        number = session.scalars(select(ActivationSet.id).where(ActivationSet.key == key)).one()
    keys = {job.key for job in last.jobs}
    for name in (key, str(number), number):
        assert {job.key for job in plan_of(service, 1, given=name).jobs} == keys
        assert plan_of(service, 1, given=name).embeddings == "cls of dinov2-emoji layer 5"
    mean = ExtractionConfig(tokens="mean", shard_images=8)
    other = plan_of(service, 1, given=key, extraction=mean)
    assert {job.status for job in other.jobs if job.key in keys} == {"joined"}
    # Its own set, named by its key, is `own`.
    own = plan_of(service, 1, given="own")
    assert {job.key for job in plan_of(service, 1, given=key_of(spec, last, 1)).jobs} == {job.key for job in own.jobs}


def test_a_set_that_does_not_fit(service):
    register_small(service, n_classes=2)
    with pytest.raises(UserError, match="there is no activation set nonsense: give last, own, or the number or key"):
        plan_of(service, 1, given="nonsense")
    plan_of(service, 1, enter=True)
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE dataset SET fingerprint = 'another', name = 'other'"))
        number = session.scalar(text("SELECT min(id) FROM activation_set"))
    register_small(service, n_classes=2)
    with pytest.raises(UserError, match=f"activation set {number} is of the images of other, not of small"):
        plan_of(service, 1, given=str(number))


def test_a_failed_extraction_ends_what_needs_it_twice_only_once(service):
    register_small(service, n_classes=2)
    plan = plan_of(service, 1, enter=True)
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE job SET request = jsonb_set(request, '{model,name}', '\"/nowhere\"')"
                             " WHERE kind = 'extract'"))  # fmt: skip
    assert run_jobs(service, plan, "extract") == ["failed"]
    with transaction(service.sessions) as session:
        failed = session.execute(text("SELECT job_id, count(*) FROM job_event WHERE state = 'failed' GROUP BY 1")).all()
        assert sorted(failed) == [(job.id, 1) for job in plan.jobs]
    again = plan_of(service, 1, enter=True)
    assert {job.status for job in again.jobs} == {"again"}
    assert set(run_jobs(service, again)) == {"succeeded"}


def test_a_lost_shard_of_the_embeddings_is_made_again(service, spec):
    register_small(service, n_classes=2)
    mean = ExtractionConfig(tokens="mean", shard_images=8, batch_size=8)
    plan_of(service, 1, enter=True)
    with transaction(service.sessions) as session:
        key = session.scalars(select(ActivationSet.key).where(ActivationSet.layer == LAST)).one()
    plan = plan_of(service, 2, given=key, enter=True, extraction=mean)
    assert run_jobs(service, plan, "extract", "train") == ["succeeded"] * 3
    (shard,) = [name for name in service.store.list(f"activations/{key}/") if "shard" in name]
    content = service.store.get(shard)
    service.store.delete(shard)
    assert run_jobs(service, plan, "analyze") == ["waiting"]
    assert sorted(run_jobs(service, plan, "extract", "analyze")) == ["not queued", "succeeded", "succeeded"]
    assert service.store.get(shard) == content


@given(st.data())
def test_rows_go_to_their_images(data):
    n_images, n_tokens, n_views = (data.draw(st.integers(1, top)) for top in (12, 3, 2))
    scored = np.array(sorted(data.draw(st.sets(st.integers(0, 20), min_size=n_images))), dtype=np.int32)
    further = data.draw(st.sets(st.integers(0, 20)))
    stored = sorted({*scored.tolist(), *further})
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    values = rng.normal(size=(len(stored), n_views, n_tokens, 4)).astype(np.float32)
    cut = data.draw(st.integers(0, len(stored)))
    shards = [
        SimpleNamespace(
            activations=torch.from_numpy(values[part].reshape(-1, 4)),
            image_index=torch.tensor(stored[part], dtype=torch.int32).repeat_interleave(n_views * n_tokens),
            view=torch.arange(n_views).repeat_interleave(n_tokens).repeat(len(stored[part])),
        )
        for part in (slice(0, cut), slice(cut, None))
    ]
    manifest = SimpleNamespace(n_tokens=n_tokens, d_model=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activations, "open_activation_set", lambda context, key: (None, manifest))
        patch.setattr(activations, "iterate_shards", lambda context, manifest: iter(shards))
        found = read_embeddings("key", scored, None)
        lacking = max({*range(22)} - set(stored))
        with pytest.raises(UserError, match=rf"lack 1 of {len(scored) + 1} scored images.*image {lacking} of"):
            read_embeddings("key", np.array(sorted([*scored.tolist(), lacking]), dtype=np.int32), None)
    expected = [values[stored.index(image), 0].mean(0) for image in scored.tolist()]
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-5, atol=1e-6)
