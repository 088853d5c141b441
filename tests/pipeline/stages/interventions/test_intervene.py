"""Stage intervene on the bundled backbone and images: birds are taken away, and the rows say what else was lost."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sqlalchemy import select
from tests.pipeline.in_process import run_jobs
from tests.pipeline.stages.interventions.small_plans import EDITS, plan_interventions, query
from tests.pipeline.stages.interventions.test_contrast_rows import NUMBERS, slow_contrast
from tests.small import register_small

from hsae.backbones.backbone import Backbone
from hsae.catalog import Dataset, InterventionSet, Job, transaction
from hsae.datasets import ImageFile, source_at
from hsae.datasets.split import split_images
from hsae.hierarchy.probes.ridge_probe import ridge_probes
from hsae.interventions.config import CONTROLS, InterveneSettings
from hsae.interventions.readouts import LabelledRows, ReadRows, train_probe
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.labels import listed_labels
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.kinds.registry import stage_of
from hsae.sae.config import SaeConfig
from hsae.split_config import SplitConfig

pytestmark = pytest.mark.slow  # a study of 130 classes comes first

N_CLASSES = 130
BIRDS = InterveneSettings(
    nodes=("bird.n.01", "mammal.n.01"),
    choose="selectivity",
    n_latents=12,
    doses=(0.0, 0.5, 1.0),
    n_images=260,
    n_shuffles=99,
)
ENDS = ("through_sae", "mean_ablated", "zero_ablated")
SAE = SaeConfig(kind="topk", k=16, expansion=4, n_steps=300)


@pytest.fixture(scope="module")
def made(make_service):
    """Birds and mammals are edited in a middle layer and in the last one."""
    service = make_service()
    register_small(service, n_classes=N_CLASSES)
    plan = plan_interventions(service, BIRDS, sae=SAE, layers=(3, 5), n_views=2)
    assert set(run_jobs(service, plan)) == {"succeeded"}
    return SimpleNamespace(service=service, plan=plan)


def edits_of(made, layer, node, arm, dose=0.0, readout="probe"):
    wanted = {"layer": layer, "node": node, "arm": arm, "dose": dose, "readout": readout}
    return [row for row in query(made.service, EDITS) if {name: row[name] for name in wanted} == wanted]


@pytest.mark.parametrize("layer", [3, 5])
def test_taking_the_latents_of_birds_away_lowers_birds_more_than_the_rest(made, layer):
    """In log-odds: every image of so few classes is still placed under its node."""
    (birds,) = edits_of(made, layer, "bird.n.01", "latents")
    assert 0.5 < birds["accuracy_inside_after"] <= birds["accuracy_inside_before"]
    assert birds["specificity_log_odds"] > 0
    assert min(birds["moved_inside"], birds["moved_outside"]) > 0
    random = edits_of(made, layer, "bird.n.01", "random")
    assert [row["draw"] for row in random] == [0, 1, 2, 3]
    chosen = set(birds["latents"])
    assert 0 < len(chosen) <= 12
    for row in random:
        assert len(set(row["latents"]) - chosen) == len(chosen)


def test_gamma_one_changes_nothing(made):
    for row in query(made.service, EDITS):
        if row["dose"] == 1.0:
            assert row["accuracy_inside_before"] == row["accuracy_inside_after"]
            assert row["accuracy_outside_before"] == row["accuracy_outside_after"]
            assert (row["moved_inside"], row["moved_outside"]) == (0, 0)
            assert row["specificity"] in (0, None)
    same = query(
        made.service,
        "SELECT count(*) AS n FROM intervention_effect e"
        " JOIN intervention i USING (intervention_set_id, number, readout)"
        " WHERE i.dose = 1 AND (log_odds_before IS DISTINCT FROM log_odds_after"
        " OR accuracy_before IS DISTINCT FROM accuracy_after)",
    )
    assert same == [{"n": 0}]


def test_doses_and_arms_are_all_there(made):
    rows = query(made.service, EDITS)
    arms = {(row["arm"], row["draw"]) for row in rows}
    assert arms == {("latents", 0), *(("random", draw) for draw in range(4)), *((name, 0) for name in CONTROLS[1:])}
    assert len(rows) == 2 * 2 * len(arms) * 3 * 2  # layers, nodes, arms, doses, readouts
    for layer in (3, 5):
        strong, half, none = (edits_of(made, layer, "bird.n.01", "latents", dose)[0] for dose in (0.0, 0.5, 1.0))
        assert strong["specificity_log_odds"] > half["specificity_log_odds"] > none["specificity_log_odds"] == 0
    for row in rows:
        assert (row["latents"] is None) == (row["arm"] not in ("latents", "random"))
        assert (row["specificity_log_odds"] is None) == (row["readout"] == "knn")


def test_the_distance_curve_has_every_class_once(made):
    for layer in (3, 5):
        (birds,) = edits_of(made, layer, "bird.n.01", "latents")
        curve = query(
            made.service,
            "SELECT * FROM intervention_distance WHERE intervention_set_id = :set AND number = :number"
            " AND readout = 'probe' ORDER BY distance",
            set=birds["intervention_set_id"], number=birds["number"],
        )  # fmt: skip
        assert [row["distance"] for row in curve][:2] == [0, curve[1]["distance"]]
        target, *others = curve
        assert target["n_classes"] == birds["n_inside"]
        assert sum(row["n_classes"] for row in others) == birds["n_outside"]
        assert target["log_odds_drop"] > 0
        assert all(row["log_odds_null_low"] <= row["log_odds_null_high"] for row in others)
        assert target["accuracy_null_low"] is None
        assert -1 <= birds["distance_correlation"] <= 1
        assert 0 < birds["distance_p"] <= 1


def test_effects_are_of_every_node_at_its_distance(made):
    (birds,) = edits_of(made, 3, "bird.n.01", "latents")
    effects = query(
        made.service,
        "SELECT e.*, y.name FROM intervention_effect e JOIN synset y ON y.id = e.synset_id"
        " WHERE intervention_set_id = :set AND number = :number AND readout = 'probe'",
        set=birds["intervention_set_id"], number=birds["number"],
    )  # fmt: skip
    by_name = {row["name"]: row for row in effects}
    assert {row["split"] for row in effects} == {"score"}
    assert by_name["bird.n.01"]["distance"] == 0
    assert by_name["owl.n.01"]["distance"] == 0
    assert by_name["vertebrate.n.01"]["distance"] == 1
    assert by_name["mammal.n.01"]["distance"] == 2
    assert by_name["entity.n.01"]["log_odds_before"] is None
    assert by_name["entity.n.01"]["accuracy_before"] == 1
    bird = by_name["bird.n.01"]
    assert bird["log_odds_after"] < bird["log_odds_before"]
    assert bird["accuracy_after"] <= bird["accuracy_before"]


def test_controls_are_contrasted_over_nodes_and_at_equal_forgetting(made):
    rows = query(made.service, "SELECT * FROM intervention_contrast ORDER BY id")
    assert len(rows) == 2 * 2 * len(CONTROLS) * 3  # layers, readouts, controls, two nodes and all
    for row in rows:
        if row["synset_id"] is None:
            assert row["n_nodes"] == 2
            assert row["specificity_p"] in (0.5, 1.0)  # two nodes have four signs
        else:
            assert row["specificity_p"] is None
            assert row["n_nodes"] == 1
        if row["equal_forgetting"] is not None and row["equal_forgetting"] > 0 and row["synset_id"] is not None:
            assert row["cost"] is not None
    # Each is what a loop makes of the rows of single edits.
    edits = query(made.service, EDITS)
    for row in (row for row in rows if row["synset_id"] is not None):
        place = {name: row[name] for name in ("intervention_set_id", "readout", "synset_id")}
        here = [edit for edit in edits if place.items() <= edit.items()]
        own, others = (
            [
                [known(edit) for edit in here if (edit["arm"], edit["draw"]) == (arm, draw)]
                for draw in sorted({edit["draw"] for edit in here if edit["arm"] == arm})
            ]
            for arm in ("latents", row["control"])
        )
        assert len(own[0]) == len(BIRDS.doses)
        assert known(row, NUMBERS) == pytest.approx(slow_contrast(own[0], others), abs=1e-9, nan_ok=True)


def known(row, names=("specificity", "forgetting", "accuracy_outside_before", "accuracy_outside_after")):
    """Numbers of a row by the ends of their names, as in `slow_contrast`; NaN where one is undefined."""
    short = {name: name.removeprefix("accuracy_outside_") for name in names}
    return {short[name]: np.nan if row[name] is None else row[name] for name in names}


def test_readouts_stand_beside_what_the_sae_costs(made):
    service = made.service
    rows = query(service, "SELECT r.*, a.layer FROM intervention_readout r JOIN intervention_set s ON"
                 " s.id = r.intervention_set_id JOIN analysis_input a ON a.analysis_id = s.analysis_id")  # fmt: skip
    assert {(row["layer"], row["readout"]) for row in rows} == {(3, "probe"), (3, "knn"), (5, "probe"), (5, "knn")}
    for row in rows:
        assert row["accuracy"] > 10 * row["chance"]
        assert row["accuracy_through_sae"] > 0
        assert row["moved_through_sae"] > 0
        assert (row["log_odds"] is None) == (row["readout"] == "knn")
        losses = [row[name] for name in ("cross_entropy", *(f"cross_entropy_{end}" for end in ENDS))]
        recovered = [row["loss_recovered_mean"], row["loss_recovered_zero"]]
        if row["readout"] == "knn":  # a vote has no probabilities
            assert losses + recovered == [None] * 6
            continue
        loss, through, *ablated = losses
        assert 0 < loss < through < min(ablated)
        assert ablated[0] != ablated[1]
        assert recovered == pytest.approx([(one - through) / (one - loss) for one in ablated])


def test_the_unedited_probe_is_that_of_the_whole_model(made):
    """Extract the last layer again, and probe it with the kernel of the stage probe."""
    service = made.service
    with transaction(service.sessions) as session:
        dataset = dataset_ref(session.execute(select(Dataset)).scalar_one())
        job = session.get_one(Job, next(job.id for job in made.plan.jobs if job.kind == "intervene"))
    request = stage_of("intervene").request.model_validate(job.request)
    listing, taxonomy = read_listing(service.store, dataset), read_taxonomy(service.store, dataset)
    labels = np.asarray(listed_labels(listing, taxonomy))
    split = split_images(listing, SplitConfig())
    backbone = Backbone.load(request.model, layers=(5,), device=torch.device("cpu"))
    source, rows = source_at(dataset.root), []
    for path in listing["path"].to_pylist():
        with source.open(path) as stream, ImageFile(stream, path, max_pixels=10**8) as file:
            rows.append(backbone.activations(backbone.pixel_values([file.decode()]), "cls")[5][0, 0].numpy())
    x = np.stack(rows)
    present, y = np.unique(labels[split.train], return_inverse=True)
    (probe,) = ridge_probes(x[split.train], y, x[split.score], [np.arange(len(present))])
    expected = (present[probe.predicted] == labels[split.score]).mean()
    found = query(service, "SELECT accuracy, n_images, n_train FROM intervention_readout r JOIN intervention_set s"
                  " ON s.id = r.intervention_set_id WHERE readout = 'probe'")  # fmt: skip
    for row in found:
        assert row["accuracy"] == pytest.approx(expected, abs=2 / split.score.sum())
        assert (row["n_images"], row["n_train"]) == (split.score.sum(), split.train.sum())
    # In the last layer an ablation leaves the readout one row for all images: the mean of those that train, or zeros.
    train, select_ = (LabelledRows(x[part], labels[part]) for part in (split.train, split.select))
    linear = train_probe(train, select_, N_CLASSES, ReadRows(1, has_class_token=True), torch.device("cpu"))
    (last,) = query(service, "SELECT r.* FROM intervention_readout r JOIN intervention_set s ON"
                    " s.id = r.intervention_set_id JOIN analysis_input a ON a.analysis_id = s.analysis_id"
                    " WHERE a.layer = 5 AND readout = 'probe'")  # fmt: skip
    for row, name in ((x[split.train].mean(0), "mean_ablated"), (np.zeros(x.shape[1]), "zero_ablated")):
        log_p = torch.log_softmax(torch.from_numpy(row).double() @ linear.weight + linear.intercept, 0).numpy()
        assert last[f"cross_entropy_{name}"] == pytest.approx(-log_p[labels[split.score]].mean(), rel=1e-2)


def test_the_last_layer_needs_no_image_and_agrees_with_the_pass_over_images(made):
    service = made.service
    starts = query(service, "SELECT s.id, s.start, a.layer FROM intervention_set s JOIN analysis_input a"
                   " ON a.analysis_id = s.analysis_id ORDER BY s.id")  # fmt: skip
    assert [(row["layer"], row["start"]) for row in starts] == [(3, "images"), (5, "stored")]
    settings = BIRDS.model_copy(update={"start": "images", "controls": (), "doses": (0.0,), "nodes": ("bird.n.01",)})
    plan = plan_interventions(service, settings, sae=SAE, layers=(3, 5), n_views=2)
    assert plan.study_id == made.plan.study_id  # interventions change no result
    assert {job.status for job in plan.jobs if job.kind != "intervene"} == {"reused"}
    assert run_jobs(service, plan, "intervene") == ["succeeded"] * 2
    again = query(service, "SELECT i.* FROM intervention i JOIN intervention_set s ON s.id = i.intervention_set_id"
                  " JOIN analysis_input a ON a.analysis_id = s.analysis_id WHERE s.config ->> 'start' = 'images'"
                  " AND a.layer = 5 AND i.readout = 'probe'")  # fmt: skip
    (stored,) = edits_of(SimpleNamespace(service=service), 5, "bird.n.01", "latents")[:1]
    assert again[0]["latents"] == stored["latents"]
    assert again[0]["specificity_log_odds"] == pytest.approx(stored["specificity_log_odds"], rel=1e-3)
    with transaction(service.sessions) as session:
        for row in session.scalars(select(InterventionSet).where(InterventionSet.start == "images")):
            if row.config["start"] == "images":
                session.delete(row)


def test_latents_of_a_label_are_those_under_the_node(made):
    service = made.service
    settings = InterveneSettings(nodes=("bird.n.01",), controls=(), readouts=("probe",), n_latents=5)
    plan = plan_interventions(service, settings, sae=SAE, layers=(5,), n_views=2)
    assert run_jobs(service, plan, "intervene") == ["succeeded"]
    labelled = query(
        service,
        "SELECT l.latent FROM latent l JOIN analysis_input a ON a.analysis_id = l.analysis_id JOIN synset t ON"
        " t.name = 'bird.n.01' WHERE a.layer = 5 AND l.basis = 'sae' AND NOT l.is_dead AND l.label_synset_id IN"
        " (SELECT c.descendant_id FROM hypernym_closure c WHERE c.ancestor_id = t.id)",
    )
    (row,) = query(service, "SELECT i.latents FROM intervention i JOIN intervention_set s ON"
                   " s.id = i.intervention_set_id WHERE s.config ->> 'choose' = 'label'")  # fmt: skip
    assert set(row["latents"]) <= {each["latent"] for each in labelled}
    assert len(row["latents"]) == min(5, len(labelled))
