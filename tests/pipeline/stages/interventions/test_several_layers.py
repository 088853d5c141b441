"""Interventions on two layers in one pass: jobs on tiny backbones, beside the same edits by hand and layer by layer."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sqlalchemy import text
from tests.docs.cookbook import cookbook_query
from tests.pipeline.in_process import run_jobs
from tests.pipeline.stages.interventions.small_plans import QUICK, plan_interventions, query
from tests.relevancy.small_backbones import saved
from tests.small import register_small

import hsae
from hsae.backbones.backbone import Backbone
from hsae.catalog import transaction
from hsae.catalog.findings.interventions.beside_random import edits_beside_random
from hsae.catalog.findings.interventions.pictured import pictured_edits
from hsae.catalog.queries.saes import show_saes
from hsae.cli.main import cli
from hsae.datasets import ImageFile, source_at
from hsae.datasets.split import split_images
from hsae.interventions.config import CONTROLS, InterveneSettings
from hsae.interventions.effects import Tree
from hsae.pipeline.inputs.labels import listed_labels
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.kinds.registry import stage_of
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.split_config import SplitConfig
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors

LAYERS = (0, 2)
LAST = 3
EACH = InterveneSettings(
    nodes=("bird.n.01",), choose="selectivity", max_density=1.0, n_latents=4, n_random=2, n_shuffles=9, doses=(0.0, 1.0)
)
TOGETHER = EACH.model_copy(update={"layers": "together"})
SETS = """
    SELECT s.*, i.layer FROM intervention_set s JOIN analysis_input i ON i.analysis_id = s.analysis_id ORDER BY s.id
"""
EDITS = "SELECT * FROM intervention WHERE intervention_set_id = :set ORDER BY number, readout"


def made_with(service, folder, settings, **changes):
    return plan_interventions(service, settings, layers=LAYERS, sae=QUICK, model=str(folder), **changes)


@pytest.fixture(scope="module")
def made(make_service, tmp_path_factory):
    """A study whose layers are edited one by one, and then together."""
    service = make_service()
    register_small(service, n_classes=25)
    folder = saved("dinov2", tmp_path_factory.mktemp("backbone"))
    assert set(run_jobs(service, made_with(service, folder, EACH))) == {"succeeded"}
    plan = made_with(service, folder, TOGETHER)
    assert run_jobs(service, plan, "intervene") == ["succeeded"]
    *of_layers, joint = query(service, SETS)
    assert [row["layer"] for row in of_layers] == list(LAYERS)
    edits = {row["layer"]: query(service, EDITS, set=row["id"]) for row in of_layers}
    return SimpleNamespace(
        service=service, folder=folder, plan=plan, joint=joint, edits=query(service, EDITS, set=joint["id"]),
        analyses=[row["analysis_id"] for row in of_layers], of_layers=edits,
    )  # fmt: skip


def test_the_set_belongs_to_the_deepest_layer_and_names_the_others(made):
    first, deepest = made.analyses
    assert (made.joint["analysis_id"], made.joint["with_analyses"]) == (deepest, [first])
    assert (made.joint["start"], made.joint["config"]["layers"]) == ("images", "together")
    others = query(made.service, "SELECT 1 FROM intervention_set WHERE with_analyses IS NULL")
    assert len(others) == len(LAYERS)


def test_every_arm_edits_in_each_layer_what_it_edits_there_alone(made):
    first, deepest = (made.of_layers[layer] for layer in LAYERS)
    names = {"latents": 1, "random": EACH.n_random} | dict.fromkeys(CONTROLS[1:], 1)
    assert len(made.edits) == sum(names.values()) * len(EACH.doses) * len(EACH.readouts)
    for row, in_first, in_deepest in zip(made.edits, first, deepest, strict=True):
        arm = [{name: one[name] for name in ("number", "readout", "arm", "draw", "dose", "n_inside", "n_outside")}
               for one in (row, in_first, in_deepest)]  # fmt: skip
        assert arm[0] == arm[1] == arm[2]
        assert row["latents"] == in_deepest["latents"]
        assert (row["latents"] is None) == (row["arm"] not in ("latents", "random"))
        expected = None if in_first["latents"] is None else {str(LAYERS[0]): in_first["latents"]}
        assert row["further_latents"] == expected
        assert in_first["further_latents"] is None
        if row["dose"] == 0:
            assert row["moved_inside"] > 0
            assert row["moved_inside"] not in (in_first["moved_inside"], in_deepest["moved_inside"])


def test_gamma_one_changes_nothing(made):
    same = [row for row in made.edits if row["dose"] == 1]
    assert len(same) == len(made.edits) / 2
    for row in same:
        assert (row["moved_inside"], row["moved_outside"]) == (0, 0)
        for where in ("inside", "outside"):
            assert row[f"accuracy_{where}_before"] == row[f"accuracy_{where}_after"]
    changed = query(
        made.service,
        "SELECT e.number FROM intervention_effect e JOIN intervention i USING (intervention_set_id, number, readout)"
        " WHERE e.intervention_set_id = :set AND i.dose = 1 AND (log_odds_before IS DISTINCT FROM log_odds_after"
        " OR accuracy_before IS DISTINCT FROM accuracy_after)",
        set=made.joint["id"],
    )
    assert changed == []


def scored_passes(made):
    """The scored images' pass through the whole backbone, which of them are under the node, and the SAE of each layer.

    From the files, the listing and the weights, without a function of the stage.
    """
    service = made.service
    with transaction(service.sessions) as session:
        stored = session.execute(text("SELECT request FROM job WHERE id = :id"), {"id": made.joint["job_id"]}).scalar()
        saes = {row.key: row for row in session.execute(text("SELECT key, weights_sha256, config FROM sae"))}
    request = stage_of("intervene").request.model_validate(stored)
    listing, taxonomy = read_listing(service.store, request.dataset), read_taxonomy(service.store, request.dataset)
    score = np.flatnonzero(split_images(listing, SplitConfig()).score)
    backbone = Backbone.load(request.model, layers=(*LAYERS, LAST), device=torch.device("cpu"))
    source, images = source_at(request.dataset.root), []
    for path in np.array(listing["path"].to_pylist())[score]:
        with source.open(path) as stream, ImageFile(stream, path, max_pixels=10**8) as file:
            images.append(file.decode())
    (node,) = (at for at, synset in enumerate(taxonomy.synsets) if synset.name == "bird.n.01")
    inside = Tree.of(taxonomy).inside[np.asarray(listed_labels(listing, taxonomy))[score], node] > 0
    found = {}
    for edited in request.edited:
        row = saes[edited.sae_key]
        tensors, _ = get_tensors(service.store, weights_key(row.key, row.weights_sha256), sha256=row.weights_sha256)
        found[edited.layer] = SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(row.config))
    return backbone.recorded(backbone.pixel_values(images)), inside, found


def moved(recorded, saes, edit):
    """How far each image's class token in the last layer goes, over the spread of the unedited ones.

    The first layer's class token gets the edit, blocks follow, and then the second layer's gets it.
    """
    first, second = LAYERS
    with torch.no_grad():
        stream = recorded.streams[first].clone()
        stream[:, 0] += edit(first, saes[first], stream[:, 0])
        stream = recorded.resume(stream, first, second).clone()
        stream[:, 0] += edit(second, saes[second], stream[:, 0])
        after = recorded.resume(stream, second, LAST)[:, 0].double()
    plain = recorded.streams[LAST][:, 0].double()
    spread = ((plain - plain.mean(0)) ** 2).sum(1).mean()
    return (((after - plain) ** 2).sum(1) / spread).numpy()


def test_the_later_edit_sees_what_the_earlier_one_left(made):
    recorded, inside, saes = scored_passes(made)
    rows = [row for row in made.edits if row["latents"] is not None and row["dose"] == 0 and row["readout"] == "probe"]
    assert [(row["arm"], row["draw"]) for row in rows] == [("latents", 0), ("random", 0), ("random", 1)]
    for row in rows:
        latents = {LAYERS[0]: row["further_latents"][str(LAYERS[0])], LAYERS[1]: row["latents"]}

        def without(layer, sae, x, latents=latents):
            z = sae.encode(x)
            less = z.clone()
            less[:, latents[layer]] = 0
            return sae.decode(less) - sae.decode(z)

        expected = moved(recorded, saes, without)
        assert row["moved_inside"] == pytest.approx(expected[inside].mean(), rel=1e-3)
        assert row["moved_outside"] == pytest.approx(expected[~inside].mean(), rel=1e-3)
    readouts = query(
        made.service, "SELECT * FROM intervention_readout WHERE intervention_set_id = :set", set=made.joint["id"]
    )
    through = moved(recorded, saes, lambda layer, sae, x: sae.decode(sae.encode(x)) - x).mean()
    assert [row["moved_through_sae"] for row in readouts] == pytest.approx([through, through], rel=1e-3)


def test_tables_name_both_layers(made, monkeypatch):
    for name, value in made.service.environment.items():
        monkeypatch.setenv(name, value)

    def shown(*arguments):
        found = CliRunner().invoke(cli, ["results", "interventions", *map(str, arguments)])
        assert found.exit_code == 0, found.output
        return found.stdout

    for table in ("edits", "contrasts", "distances", "effects", "readouts"):
        rows = json.loads(shown("--table", table, "--limit", 100_000, "--json"))
        layers = {(row["layer"], tuple(row["layers"])) for row in rows}
        assert layers == {(0, (0,)), (2, (2,)), (2, LAYERS)}
        printed = shown("--table", table, "--layer", 2, "--limit", 100_000)
        assert " 0, 2 " in printed
    analysis = hsae.open().study("latest").analysis(layer=2)
    for frame in (analysis.interventions(), analysis.readouts()):
        assert set(map(tuple, frame.layers)) == {(2,), LAYERS}
    with transaction(made.service.sessions) as session:
        beside = edits_beside_random(session, made.plan.study_id, "probe")
        session.execute(text("DELETE FROM intervention_set WHERE with_analyses IS NULL"))
        (picture,) = pictured_edits(session, made.analyses, limit=9)
        session.rollback()
    assert (picture["layers"], picture["n_latents"]) == (list(LAYERS), 8)
    # A study's latest submit says which of its sets are its own.
    assert [(row["layers"], row["n_latents"]) for row in beside] == [(list(LAYERS), 8)] * len(EACH.doses)


def test_what_both_layers_cost_is_not_said_of_one_sae(made):
    (sae,) = query(made.service, "SELECT sae_id AS id FROM analysis WHERE id = :id", id=made.analyses[1])
    alone = query(
        made.service,
        "SELECT s.analysis_id, r.loss_recovered_mean AS recovered FROM intervention_readout r JOIN intervention_set s"
        " ON s.id = r.intervention_set_id WHERE r.readout = 'probe' AND s.analysis_id = :id ORDER BY s.id",
        id=made.analyses[1],
    )
    with transaction(made.service.sessions) as session:
        (found,) = show_saes(session, [sae["id"]])
    assert len(alone) == 2
    assert found["loss_recovered_mean"] == alone[0]["recovered"] != alone[1]["recovered"]
    asked = query(made.service, cookbook_query("What do classifiers lose behind each SAE?").strip().removesuffix(";"))
    assert [(row["layer"], row["readout"]) for row in asked] == [(layer, "probe") for layer in LAYERS]
    (deepest,) = (row for row in asked if row["layer"] == LAYERS[1])
    assert float(deepest["recovered_of_mean"]) == pytest.approx(alone[0]["recovered"], abs=6e-4)


def test_attribution_chooses_in_each_layer_what_it_chooses_there_alone(made):
    given = {"choose": "attribution", "controls": (), "doses": (0.0,), "readouts": ("probe",)}
    for settings in (EACH, TOGETHER):
        plan = made_with(made.service, made.folder, settings.model_copy(update=given))
        assert set(run_jobs(made.service, plan, "intervene")) == {"succeeded"}
    chosen = query(
        made.service,
        "SELECT e.latents, e.further_latents FROM intervention e JOIN intervention_set s ON s.id ="
        " e.intervention_set_id WHERE s.config ->> 'choose' = 'attribution' ORDER BY s.id",
    )
    first, deepest, joint = chosen
    assert (joint["latents"], joint["further_latents"]) == (deepest["latents"], {str(LAYERS[0]): first["latents"]})


def test_from_stored_patches_as_from_images(make_service, tmp_path):
    """Blocks between the layers are run again on what is stored of the first."""
    service = make_service()
    register_small(service, n_classes=25)
    folder = saved("siglip_vision_model", tmp_path)
    quick = TOGETHER.model_copy(update={"controls": ("random",), "choose": "attribution", "readouts": ("probe",)})
    for start in ("stored", "images"):
        settings = quick.model_copy(update={"start": start})
        plan = made_with(service, folder, settings, tokens="patches")
        kinds = () if start == "stored" else ("intervene",)
        assert set(run_jobs(service, plan, *kinds)) == {"succeeded"}
    stored, images = query(service, SETS)
    assert (stored["start"], images["start"]) == ("stored", "images")
    for one, other in zip(*(query(service, EDITS, set=row["id"]) for row in (stored, images)), strict=True):
        assert (one["latents"], one["further_latents"]) == (other["latents"], other["further_latents"])
        for name in ("moved_inside", "moved_outside", "specificity_log_odds"):
            assert one[name] == pytest.approx(other[name], rel=1e-2, abs=1e-6)


def test_a_layer_that_lacks_something_is_named_in_one_line(made):
    with transaction(made.service.sessions) as session:
        session.execute(text("UPDATE latent SET label_f1 = NULL"))
    for changes, line in (
        ({"choose": "label"}, "layer 0: bird.n.01 has no latent: no label of this SAE is at or under it"),
        ({"start": "stored"}, "layer 0 has no stored tokens that a pass could start from: only cls of"),
    ):
        plan = made_with(made.service, made.folder, TOGETHER.model_copy(update=changes))
        assert run_jobs(made.service, plan, "intervene") == ["failed"]
        ids = [job.id for job in plan.jobs if job.kind == "intervene"]
        (job,) = query(made.service, "SELECT error FROM job WHERE id = :id", id=ids[0])
        assert line in job["error"]
        assert "\n" not in job["error"].strip()
