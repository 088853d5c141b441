"""Stage map: from a submit to rows and values, against the maps made one by one; ended attempts, damage and gc."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select, text
from tests.backbones.conftest import STAGED, image_processor, new_model, save
from tests.pipeline.in_process import TINY_SAE, CountingStore, attempt, job_id, run_jobs
from tests.small import bare_scoring, register_small, small_request

from hsae.backbones.backbone import Backbone
from hsae.catalog import Job, MapSet, Sae, transaction
from hsae.catalog.findings.maps import latents_to_map, map_rows, mapped_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.datasets import ImageFile, source_at
from hsae.errors import UserError
from hsae.pipeline.kinds import map as map_kind
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.stages import map as stage
from hsae.pipeline.upkeep.garbage import collect, find_garbage
from hsae.pipeline.upkeep.integrity import find_lost, named_objects
from hsae.relevancy.config import MAP_METHODS, MapSettings
from hsae.relevancy.objective import LatentObjective
from hsae.relevancy.relevance import relevance_maps
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.store.keys import maps_key, weights_key
from hsae.store.tensors import get_tensors

SETTINGS = MapSettings(latents=5, images=3, methods=MAP_METHODS, batch_size=4)
LAYER = 3


def plan_maps(service, settings=SETTINGS, *, tokens="cls", **changes):
    request = small_request(layers=(LAYER,), saes=(TINY_SAE,), scoring=bare_scoring(), own={"map": settings}, **changes)
    extraction = request.extraction.model_copy(update={"tokens": tokens})
    return submit(request.model_copy(update={"extraction": extraction}), service.settings, service.sessions)


def query(service, statement, **values):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(statement), values).mappings()]


def rows_of_maps(service):
    (analysis,) = query(service, "SELECT analysis_id FROM map_set")
    with transaction(service.sessions) as session:
        return map_rows(session, analysis["analysis_id"])


def values_of(service, row):
    tensors, _ = get_tensors(service.store, maps_key(row["maps_key"], row["maps_sha256"]), sha256=row["maps_sha256"])
    return tensors[row["method"]][row["map_index"]].float()


@pytest.fixture(scope="module", params=["cls", "patches", "mean"])
def made(request, make_service):
    """Maps of an SAE on these tokens."""
    service = make_service()
    register_small(service, n_classes=4)
    plan = plan_maps(service, tokens=request.param)
    assert set(run_jobs(service, plan)) == {"succeeded"}
    return SimpleNamespace(service=service, plan=plan, tokens=request.param)


def test_maps_are_those_of_the_latents_and_their_images(made):
    service = made.service
    rows = rows_of_maps(service)
    with transaction(service.sessions) as session:
        (analysis,) = mapped_analyses(session, AnalysisFilter(layer=LAYER))
        assert analysis == {"analysis_id": rows[0]["analysis_id"], "layer": LAYER}
        assert mapped_analyses(session, AnalysisFilter(layer=LAYER + 1)) == []
        chosen = latents_to_map(session, analysis["analysis_id"], SETTINGS.latents)
        job = session.get_one(Job, job_id(made.plan, "map"))
        made_of = stage_of("map").request.model_validate(job.request)
        sae_row = session.scalars(select(Sae)).one()
        assert (job.queue, job.progress_unit, job.progress_done) == ("gpu", "images", job.progress_total)
    tokens = "" if made.tokens == "cls" else f", {made.tokens}"
    assert job.title == (
        f"map latents of topk SAE x2 (k=4, n_steps=30) of dinov2-emoji layer 3{tokens} on"
        " small (latents=5, images=3, methods=chefer+gradcam+attention+gradient+activation+random, batch_size=4)"
    )
    pairs = [(row["latent"], rank, top) for row in chosen for rank, top in enumerate(row["top_images"][:3], start=1)]
    assert pairs
    found = {(row["latent"], row["rank"], row["method"]): row for row in rows}
    assert found.keys() == {(latent, rank, method) for latent, rank, _ in pairs for method in MAP_METHODS}
    assert job.result == {
        "map_set": rows[0]["map_set_id"],
        "n_latents": len(chosen),
        "n_maps": sum(row["map_index"] is not None for row in rows),
        "n_undefined": sum(row["map_index"] is None for row in rows),
    }
    tensors, _ = get_tensors(service.store, weights_key(sae_row.key, sae_row.weights_sha256), sha256=None)
    sae = SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(sae_row.config))
    backbone = Backbone.load(made_of.model, layers=(LAYER,), device=torch.device("cpu"))
    source = source_at(made_of.dataset.root)
    for latent, rank, top in pairs:
        with source.open(top["path"]) as stream, ImageFile(stream, top["path"], max_pixels=10**8) as file:
            images = backbone.pixel_values([file.decode()])
        objective = LatentObjective(sae, torch.tensor([latent]), made.tokens)
        expected = relevance_maps(backbone, LAYER, objective, images, MAP_METHODS)
        for method in MAP_METHODS:
            row = found[latent, rank, method]
            assert (row["image"], row["path"]) == (top["image"], top["path"])
            assert row["activation"] == pytest.approx(top["activation"], rel=1e-3)
            if row["map_index"] is None:
                assert not expected.maps[method].max() > 0
                assert row["peak"] is row["peak_row"] is row["peak_col"] is row["concentration"] is None
                continue
            values = values_of(service, row)
            assert values.shape == (row["n_patch_rows"], row["n_patch_cols"]) == (8, 8)
            assert values[row["peak_row"], row["peak_col"]] == values.max() == 1
            ordered = np.sort(values.numpy().flatten())[::-1]
            assert row["concentration"] == pytest.approx(ordered[:7].sum() / ordered.sum(), rel=0.01)
            if method != "random":
                np.testing.assert_allclose(
                    values * row["peak"], expected.maps[method][0], rtol=0.02, atol=0.002 * row["peak"]
                )


def test_the_surest_latent_of_every_label_comes_first_then_the_others(made):
    labels = query(
        made.service,
        "SELECT latent, label_synset_id, label_q, label_f1_adjusted, label_f1, n_fire FROM latent"
        " WHERE basis = 'sae' AND NOT is_dead AND label_f1 > 0",
    )

    def doubt(row):
        q, f1 = row["label_q"], row["label_f1_adjusted"]
        return (q is None, q or 0, row["n_fire"] < 3, f1 is None, -(f1 or 0), -row["label_f1"], row["latent"])

    surest: dict[int, int] = {}
    for row in sorted(labels, key=doubt):
        surest.setdefault(row["label_synset_id"], row["latent"])
    firsts = set(surest.values())
    expected = [row["latent"] for row in sorted(labels, key=lambda row: (row["latent"] not in firsts, doubt(row)))]
    with transaction(made.service.sessions) as session:
        (analysis,) = mapped_analyses(session, AnalysisFilter(layer=LAYER))
        everything = latents_to_map(session, analysis["analysis_id"], 10_000)
    assert [row["latent"] for row in everything] == expected
    assert {row["latent"] for row in rows_of_maps(made.service)} == set(expected[: SETTINGS.latents])


def test_more_maps_than_memory_holds_are_refused(service, monkeypatch):
    register_small(service, n_classes=2)
    monkeypatch.setattr(map_kind, "_MAX_BYTES", 100_000)
    request = small_request(layers=(LAYER,), saes=(TINY_SAE,), scoring=bare_scoring())
    many = request.model_copy(update={"own": {"map": MapSettings(latents=100, images=16)}})
    with pytest.raises(UserError, match="maps of 100 latents x 16 images x 1 methods of 64 patches take"):
        submit(many, service.settings, service.sessions)


def test_readers_take_latents_and_methods(made):
    service = made.service
    rows = rows_of_maps(service)
    latent = rows[0]["latent"]
    with transaction(service.sessions) as session:
        analysis = rows[0]["analysis_id"]
        some = map_rows(session, analysis, [latent], methods=["chefer"])
        assert map_rows(session, analysis, []) == []
        assert map_rows(session, analysis + 1) == []
    assert some == [row for row in rows if row["latent"] == latent and row["method"] == "chefer"]
    assert [row["rank"] for row in some] == [1, 2, 3][: len(some)]
    assert {row["label"] is not None for row in some} == {True}
    assert set(some[0]["preprocessing"]) >= {"image_size"}


def test_no_study_asks_for_maps_unless_it_names_a_number(service):
    register_small(service, n_classes=2)
    request = small_request(layers=(LAYER,), saes=(TINY_SAE,), scoring=bare_scoring())
    plain = submit(request, service.settings, service.sessions)
    assert "map" not in {job.kind for job in plain.jobs}
    none = request.model_copy(update={"own": {"map": MapSettings(images=2)}})
    assert submit(none, service.settings, service.sessions).study_id == plain.study_id
    # Maps change no result: the same study has them now.
    wanted = submit(request.model_copy(update={"own": {"map": SETTINGS}}), service.settings, service.sessions)
    assert wanted.study_id == plain.study_id
    assert [job.status for job in wanted.jobs if job.kind == "map"] == ["new"]
    assert {job.key for job in plain.jobs} == {job.key for job in wanted.jobs if job.kind != "map"}
    again = submit(request.model_copy(update={"own": {"map": SETTINGS}}), service.settings, service.sessions)
    assert [job.status for job in again.jobs if job.kind == "map"] == ["joined"]


def test_an_ended_attempt_leaves_nothing_and_the_next_has_the_same_bits(service):
    register_small(service, n_classes=3)
    plan = plan_maps(service)
    run_jobs(service, plan, "extract", "train", "analyze")
    number = job_id(plan, "map")
    store = CountingStore.of(service)
    with (
        attempt(service, number, store=store, stop_at=4) as (request, context),
        pytest.raises(OSError, match="at 4 of"),
    ):
        stage.make_maps(request, context)
    assert query(service, "SELECT id FROM map_set") == []
    with attempt(service, number, store=store) as (request, context):
        summary = stage.make_maps(request, context)
    (first,) = query(service, "SELECT maps_sha256 FROM map_set")
    rows = rows_of_maps(service)
    # The worker died after publishing: nothing is made again.
    with attempt(service, number, store=store) as (request, context):
        assert stage.make_maps(request, context) == summary
    assert len(store.keys_put) == 1
    # The object was lost: the same bytes are made again, and the rows stay.
    service.store.delete(store.keys_put[0])
    with attempt(service, number, store=store) as (request, context):
        assert stage.make_maps(request, context) == summary
    assert store.keys_put == [store.keys_put[0]] * 2
    assert query(service, "SELECT maps_sha256 FROM map_set") == [first]
    assert rows_of_maps(service) == rows


def test_objects_are_named_kept_and_missed(made):
    service = made.service
    with transaction(service.sessions) as session:
        row = session.scalars(select(MapSet)).one()
        named = [each for each in named_objects(session) if each.key.startswith("maps/")]
    assert [(each.key, each.job_id) for each in named] == [(maps_key(row.key, row.maps_sha256), row.job_id)]
    assert find_lost(service.store, named) == []
    orphan = f"maps/{'ab' * 32}/maps-{'0' * 16}.safetensors"
    service.store.put(orphan, b"{}")
    found = list(find_garbage(service.sessions, service.store, min_age=timedelta(0)))
    assert [listed.key for folder in found if folder.kind == "maps" for listed in folder.objects] == [orphan]
    collect(service.sessions, service.store, found, min_age=timedelta(0))
    assert list(service.store.list("maps/")) == [named[0].key]


def test_a_backbone_without_attention_weights_gets_grad_cam_and_the_job_says_so(service, tmp_path):
    """A network of convolutions, at a layer with fewer patches than its first one."""
    register_small(service, n_classes=2)
    folder = save(tmp_path, new_model("convnext"), image_processor(STAGED["convnext"][3]))
    settings = MapSettings(latents=2, images=2, methods=("chefer", "attention", "gradient"))
    changes: dict[str, Any] = {"model": str(folder), "layers": (2,), "saes": (TINY_SAE,), "scoring": bare_scoring()}
    request = small_request(own={"map": settings}, **changes)
    extraction = request.extraction.model_copy(update={"tokens": "mean"})
    plan = submit(request.model_copy(update={"extraction": extraction}), service.settings, service.sessions)
    assert set(run_jobs(service, plan)) == {"succeeded"}
    rows = rows_of_maps(service)
    assert {row["method"] for row in rows} == {"gradcam", "gradient"}
    assert {values_of(service, row).shape for row in rows if row["map_index"] is not None} == {(4, 4)}
    (event,) = query(service, "SELECT message FROM job_event WHERE message LIKE '%attention%'")
    assert event["message"] == (
        "ConvNextModel gives no attention weights of all blocks: choose the method gradcam; maps are made by gradcam,"
        " gradient"
    )


def test_latents_without_a_label_have_no_maps(service):
    register_small(service, n_classes=2)
    plan = plan_maps(service, MapSettings(latents=10_000, images=1))
    run_jobs(service, plan, "extract", "train", "analyze")
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE latent SET label_f1 = NULL, label_f1_adjusted = NULL"))
    assert run_jobs(service, plan, "map") == ["succeeded"]
    (row,) = query(service, "SELECT n_latents, n_maps, n_undefined FROM map_set")
    assert row == {"n_latents": 0, "n_maps": 0, "n_undefined": 0}
    assert rows_of_maps(service) == []
