"""A study that trains on bundled images of three drawing styles and scores on those of two others."""

import json
from datetime import timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from tests.pipeline.in_process import job_id, run_jobs, run_study
from tests.pipeline.stages.two_datasets import (
    BOTH,
    CLASSES,
    DRAWN,
    OTHER,
    activations_of,
    finished_study,
    listed,
    query,
    request_of,
    shown,
)
from tests.small import quick_scoring, register

from hsae.errors import UserError
from hsae.hierarchy.config import ProbeConfig
from hsae.hierarchy.probes.class_information import class_information
from hsae.hierarchy.probes.image_parts import TrainAndScore
from hsae.pipeline.control.datasets import remove_dataset, rename_dataset
from hsae.pipeline.exports.export import export_analysis
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.planning.submit import preview, submit
from hsae.pipeline.stages import probe as probe_stage
from hsae.pipeline.stages.probe import NO_COMMON_CLASS
from hsae.pipeline.upkeep.garbage import find_garbage
from hsae.split_config import NamedGroups, SplitConfig
from hsae.vocabulary.bases import CONTROL_BASES


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with both data sets; each has a class that the other lacks."""
    service = make_service()
    register(service, "drawn", listed(service.folder / "drawn", DRAWN, CLASSES[: BOTH.stop]))
    register(service, "other", listed(service.folder / "other", OTHER, CLASSES[BOTH.start : BOTH.stop + 1]))
    return service


@pytest.fixture(scope="module")
def done(ready):
    """The finished study with its rows."""
    return finished_study(ready)


@pytest.fixture(scope="module")
def exported(ready, done, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "out"
    export_analysis(done.analysis["id"], folder, ready.sessions, ready.store)
    return folder


def test_both_data_sets_are_extracted_and_the_embeddings_are_of_the_scored_one(ready, done):
    sets = query(
        ready, "SELECT d.name, s.layer FROM activation_set s JOIN dataset d ON d.id = s.dataset_id ORDER BY 1, 2"
    )
    assert [(row["name"], row["layer"]) for row in sets] == [("drawn", 1), ("other", 1), ("other", 5)]
    (embeddings,) = query(
        ready,
        "SELECT s.layer, d.name FROM analysis a JOIN activation_set s ON s.key = a.config ->> 'embeddings'"
        " JOIN dataset d ON d.id = s.dataset_id WHERE a.id = :id",
        id=done.analysis["id"],
    )
    assert embeddings == {"layer": 5, "name": "other"}
    again = preview(request_of(), ready.settings, ready.sessions)
    assert {job.status for job in again.jobs} == {"reused"}
    assert again.study_id == done.plan.study_id


def test_embeddings_are_of_the_scored_images(ready, done):
    (own,) = query(
        ready, "SELECT s.id FROM activation_set s JOIN dataset d ON d.id = s.dataset_id WHERE d.name = 'drawn'"
    )
    request = request_of(scoring=quick_scoring(embeddings=str(own["id"])))
    with pytest.raises(UserError, match="is of the images of drawn, not of other"):
        preview(request, ready.settings, ready.sessions)


def test_nothing_of_the_study_is_garbage(ready, done):
    assert list(find_garbage(ready.sessions, ready.store, min_age=timedelta(0))) == []


def test_all_images_of_the_first_data_set_train(ready, done):
    n_listed = read_listing(ready.store, done.of_name["drawn"]).num_rows
    assert done.sae["metrics"]["n_train_rows"] + done.sae["metrics"]["n_holdout_rows"] == n_listed
    alone = preview(request_of(score_dataset=None, split=None), ready.settings, ready.sessions)
    (training,) = [job for job in alone.jobs if job.kind == "train"]
    assert (training.status, training.key) == ("reused", done.sae["key"]), "an in-sample study has the same SAE"


def test_the_analysis_says_which_data_set_is_scored(ready, done):
    n_images = len(done.split.part)
    assert done.analysis["dataset_id"] == done.of_name["other"].id
    assert done.analysis["n_images"] == n_images
    assert done.analysis["split"] == {
        "scored": {"images": done.of_name["other"].fingerprint, "select": 0.5, "score": 0.5, "seed": 0},
        "score_dataset": "other", "by": "groups", "is_halved": False,
    }  # fmt: skip
    assert done.analysis["n_train"] == read_listing(ready.store, done.of_name["drawn"]).num_rows
    assert done.analysis["n_select"] == done.split.select.sum()
    assert done.analysis["n_score"] == done.split.score.sum()
    assert done.analysis["n_select"] + done.analysis["n_score"] == n_images
    (own,) = query(
        ready,
        "SELECT dataset, split ->> 'score_dataset' AS scored FROM analysis_input WHERE analysis_id = :id",
        id=done.analysis["id"],
    )
    assert own == {"dataset": "other", "scored": "other"}


def test_scores_are_those_of_the_scored_images(ready, done, exported):
    """Every stored pair of the SAE, counted again from the exported files."""
    z = sp.load_npz(exported / "activations.npz")
    images = pq.read_table(exported / "images.parquet")
    listing = read_listing(ready.store, done.of_name["other"])
    assert images["path"].to_pylist() == listing["path"].to_pylist()
    names = np.array(["train", "select", "score", "unused"])
    assert images["part"].to_pylist() == names[done.split.part].tolist()
    is_scored = np.array(images["part"].to_pylist()) == "score"
    fires = z.toarray()[is_scored] > 0
    closure = pq.read_table(exported / "closure.parquet")
    under = set(zip(closure["descendant"].to_pylist(), closure["ancestor"].to_pylist(), strict=True))
    classes = np.array(images["synset"].to_pylist())[is_scored]
    rows = query(
        ready,
        "SELECT n.latent, s.wnid, n.n_both, n.n_fire, n.n_images FROM node_score n"
        " JOIN synset s ON s.id = n.synset_id WHERE n.basis = 'sae' AND n.analysis_id = :id",
        id=done.analysis["id"],
    )
    assert len(rows) > 50
    for row in rows:
        inside = np.array([(name, row["wnid"]) in under for name in classes])
        assert row["n_both"] == (fires[:, row["latent"]] & inside).sum()
        assert row["n_fire"] == fires[:, row["latent"]].sum()
        assert row["n_images"] == inside.sum()


def test_the_nodes_are_those_of_the_scored_data_set(ready, done, exported):
    scored = {synset.id for synset in read_taxonomy(ready.store, done.of_name["other"]).synsets}
    (found,) = query(
        ready,
        "SELECT array_agg(DISTINCT s.wnid) AS wnids FROM node_score n JOIN synset s ON s.id = n.synset_id"
        " WHERE n.analysis_id = :id",
        id=done.analysis["id"],
    )
    assert set(found["wnids"]) <= scored
    assert CLASSES[BOTH.stop] in scored
    assert CLASSES[0] not in scored
    synsets = pq.read_table(exported / "synsets.parquet")
    assert set(synsets["synset"].to_pylist()) == scored


def test_every_baseline_is_made_from_the_training_images_and_scored_on_the_others(ready, done):
    rows = query(ready, "SELECT DISTINCT basis FROM layer_score WHERE analysis_id = :id", id=done.analysis["id"])
    assert {row["basis"] for row in rows} >= {"sae", *CONTROL_BASES, "shuffled_labels", "shuffled_taxonomy"}
    (exemplar,) = query(
        ready,
        "SELECT n_latents FROM layer_score WHERE basis = 'exemplar' AND analysis_id = :id",
        id=done.analysis["id"],
    )
    n_train = read_listing(ready.store, done.of_name["drawn"]).num_rows
    n_latents = done.sae["n_latents"]
    assert exemplar["n_latents"] == min(n_latents, n_train)


def test_probes_train_on_the_one_and_are_scored_on_the_other(ready, done):
    taxonomy = read_taxonomy(ready.store, done.of_name["other"])
    position = {taxonomy.synsets[node].id: place for place, node in enumerate(taxonomy.classes.tolist())}
    found = []
    for name in ("other", "drawn"):
        classes = read_listing(ready.store, done.of_name[name])["class_id"].to_pylist()
        kept = np.array([label in position for label in classes])
        if name == "other":
            kept &= done.split.score
        labels = np.array([position.get(label, -1) for label in classes])[kept]
        found.append((activations_of(ready, name)[kept], labels))
    (x_score, y_score), (x_train, y_train) = found
    parts = TrainAndScore(len(y_score) + np.arange(len(y_train)), np.arange(len(y_score)))
    expected = class_information(
        np.concatenate((x_score, x_train)), np.concatenate((y_score, y_train)), taxonomy, parts, ProbeConfig()
    )
    assert done.probe["dataset_id"] == done.of_name["other"].id
    assert done.probe["activation_set_id"] == done.sae["activation_set_id"]
    assert done.probe["n_images"] == len(y_score) + len(y_train)
    assert done.probe["probe_accuracy"] == pytest.approx(expected.levels.probe_accuracy[-1])
    assert done.probe["knn_accuracy"] == pytest.approx(expected.levels.knn_accuracy[-1])
    (shown,) = query(ready, "SELECT class_probe_id FROM analysis_probe WHERE analysis_id = :id", id=done.analysis["id"])
    assert shown["class_probe_id"] == done.probe["id"]


def test_of_too_many_images_the_probes_take_a_share_of_both_data_sets(ready, done, monkeypatch):
    monkeypatch.setattr(probe_stage, "MAX_IMAGES", 40)
    plan = submit(request_of(probe=ProbeConfig(seed=1)), ready.settings, ready.sessions)
    assert run_jobs(ready, plan, "probe") == ["succeeded"]
    sizes = "SELECT DISTINCT l.n_train, l.n_test FROM class_probe_level l JOIN class_probe p ON p.id = l.class_probe_id"
    (few,) = query(ready, f"{sizes} WHERE p.job_id = :id", id=job_id(plan, "probe"))
    (whole,) = query(ready, f"{sizes} WHERE p.id = :id", id=done.probe["id"])
    assert 6 <= few["n_train"] < whole["n_train"]
    assert 5 <= few["n_test"] < whole["n_test"]  # the only scored image of a class is none of a share


def test_an_export_says_what_trained_the_sae(done, exported):
    analysis = json.loads((exported / "analysis.json").read_text())
    assert (analysis["dataset"], analysis["train_dataset"]) == ("other", "drawn")
    assert analysis["split"] == done.analysis["split"]
    page = (exported / "README.md").read_text()
    assert "The SAE was trained on all images of the data set drawn." in page
    assert "`train_dataset` (null: the same)" in page


def test_titles_name_both_data_sets(ready, done, monkeypatch):
    titles = {
        row["kind"]: row["title"]
        for row in query(ready, "SELECT kind, title FROM job WHERE id = ANY(:ids) AND kind <> 'extract'",
                         ids=[job.id for job in done.plan.jobs])
    }  # fmt: skip
    assert " on other, trained on drawn (" in titles["analyze"]
    assert titles["probe"].endswith("for the classes of other, trained on drawn")
    assert titles["compare"].endswith("on other")
    assert done.plan.name.endswith("on drawn, scored on other")
    layers = shown(ready, monkeypatch, "results", "layers", "--study", done.plan.study_id)
    assert "drawn, scored on other" in " ".join(layers.split())
    study = shown(ready, monkeypatch, "studies", "show", done.plan.study_id)
    assert "drawn, scored on other" in study
    assert "score_dataset: other" in study


def test_named_groups_leave_the_rest_unused(ready, done):
    split = SplitConfig(groups=NamedGroups(select=("noto",), score=("fxemoji",)))
    plan = submit(request_of(split=split), ready.settings, ready.sessions)
    run_study(ready, plan.study_id)
    number = job_id(plan, "analyze")
    (row,) = query(ready, "SELECT * FROM analysis WHERE job_id = :id", id=number)
    assert row["sae_id"] == done.sae["id"]
    assert row["key"] != done.analysis["key"]
    styles = np.array(read_listing(ready.store, done.of_name["other"])["group"].to_pylist())
    assert row["n_select"] == (styles == "noto").sum()
    assert row["n_score"] == (styles == "fxemoji").sum()


def test_without_a_common_class_probes_say_that_they_are_undefined(ready, done):
    register(ready, "strange", listed(ready.folder / "strange", OTHER, CLASSES[20:26]))
    plan = submit(request_of(score_dataset="strange"), ready.settings, ready.sessions)
    run_study(ready, plan.study_id)
    (probe,) = query(ready, "SELECT * FROM class_probe WHERE job_id = :id", id=job_id(plan, "probe"))
    assert (probe["undefined"], probe["probe_accuracy"]) == (NO_COMMON_CLASS, None)
    (analysis,) = query(ready, "SELECT id, n_score FROM analysis WHERE job_id = :id", id=job_id(plan, "analyze"))
    bases = {row["basis"] for row in query(ready, "SELECT basis FROM layer_score WHERE analysis_id = :id",
                                           id=analysis["id"])}  # fmt: skip
    assert "exemplar" in bases
    assert "class_mean" not in bases
    assert query(ready, "SELECT 1 FROM node_absorption WHERE analysis_id = :id", id=analysis["id"]) == []


def test_what_is_lost_of_the_scored_data_set_is_made_again(ready, done):
    split = SplitConfig(seed=5)
    plan = submit(request_of(split=split), ready.settings, ready.sessions)
    (shard,) = query(
        ready,
        "SELECT object_key FROM activation_shard h JOIN activation_set s ON s.id = h.activation_set_id"
        " JOIN dataset d ON d.id = s.dataset_id WHERE d.name = 'other' AND s.layer = 1 AND shard = 0",
    )
    ready.store.delete(shard["object_key"])
    run_study(ready, plan.study_id)
    (job,) = query(ready, "SELECT state, error FROM job WHERE id = :id", id=job_id(plan, "analyze"))
    assert job["state"] == "succeeded", job
    assert ready.store.exists(shard["object_key"])


def test_a_data_set_that_scores_stays_and_may_be_renamed(ready, done):
    for name in ("drawn", "other"):
        with pytest.raises(UserError, match=f"data set {name} stays, for results belong to it: stud"):
            remove_dataset(ready.sessions, ready.store, name)
    rename_dataset(ready.sessions, "other", "elsewhere")
    (row,) = query(
        ready,
        "SELECT a.split ->> 'score_dataset' AS scored, s.request ->> 'score_dataset' AS asked FROM analysis a"
        " JOIN study_job l ON l.job_id = a.job_id JOIN study s ON s.id = l.study_id WHERE a.id = :id AND s.id = :study",
        id=done.analysis["id"],
        study=done.plan.study_id,
    )
    assert row == {"scored": "elsewhere", "asked": "elsewhere"}
    rename_dataset(ready.sessions, "elsewhere", "other")
