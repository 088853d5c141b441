"""Stage probe: the class information of a layer, once for all SAEs and studies, against its kernels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sqlalchemy import select, text
from tests.pipeline.in_process import TINY_SAE, attempt, job_id, plan_small, run_jobs
from tests.pipeline.stages.two_datasets import CLASSES, DRAWN, OTHER, listed, request_of
from tests.small import bare_scoring, link_classes, quick_scoring, register, register_small

from hsae.catalog import Dataset, transaction
from hsae.datasets.split import split_images
from hsae.extraction.config import ExtractionConfig
from hsae.hierarchy.config import ProbeConfig
from hsae.hierarchy.probes.class_information import class_information
from hsae.hierarchy.probes.image_parts import TrainAndScore, split_by_class
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.stages import probe as stage
from hsae.sae.config import SaeConfig
from hsae.split_config import SplitConfig
from hsae.store.tensors import get_tensors

N_CLASSES = 5


def plan_probe(service, *, sae=TINY_SAE, layer=3, tokens="cls", seed=0, **changes):
    """One SAE of one layer, without controls."""
    return plan_small(
        service,
        layers=(layer,),
        saes=(sae,),
        extraction=ExtractionConfig(shard_images=9, batch_size=6, tokens=tokens),
        scoring=quick_scoring(n_shuffles=0, controls=(), seed=seed, embeddings="own"),
        **changes,
    )


def query(service, statement, **values):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(statement), values).mappings()]


def probe_of(service, plan) -> tuple[dict, list[dict]]:
    """The row that a plan's probe made, and its levels."""
    (row,) = query(service, "SELECT * FROM class_probe WHERE job_id = :id", id=job_id(plan, "probe"))
    levels = query(service, "SELECT * FROM class_probe_level WHERE class_probe_id = :id ORDER BY level", id=row["id"])
    return row, levels


def expected_of(ready, plan, config, split):
    """The kernels on the stored activations."""
    service = ready.service
    with transaction(service.sessions) as session:
        dataset = dataset_ref(session.execute(select(Dataset)).scalar_one())
    taxonomy = read_taxonomy(service.store, dataset)
    position = {taxonomy.synsets[node].id: place for place, node in enumerate(taxonomy.classes.tolist())}
    labels = np.array([position[label] for label in ready.labels])
    shards = query(
        service,
        "SELECT object_key FROM activation_shard h JOIN activation_set s ON s.id = h.activation_set_id"
        " WHERE job_id = :id ORDER BY shard",
        id=job_id(plan, "extract"),
    )
    tokens = torch.cat(
        [get_tensors(service.store, shard["object_key"], sha256=None)[0]["activations"] for shard in shards]
    )
    raw = tokens.view(len(labels), -1, tokens.shape[1]).mean(1).numpy()
    parts = split_by_class(labels, config.seed)
    if split is not None:
        images = split_images(read_listing(service.store, dataset), split)
        parts = TrainAndScore(np.flatnonzero(images.train), np.flatnonzero(images.score))
    return class_information(raw, labels, taxonomy, parts, config)


def assert_close(found, expected, name):
    """NULL is NaN."""
    np.testing.assert_allclose(np.array(found, np.float64), expected, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with a data set of five classes, and the classes of its images in order."""
    service = make_service()
    register_small(service, n_classes=N_CLASSES)
    root = link_classes(service.folder, N_CLASSES)
    labels = [path.parent.name for path in sorted(root.glob("*/*"), key=lambda path: path.relative_to(root).as_posix())]
    return SimpleNamespace(service=service, labels=labels)


@pytest.mark.parametrize(
    ("layer", "tokens", "config", "split"),
    [
        (3, "cls", ProbeConfig(), None),
        (0, "cls", ProbeConfig(), SplitConfig()),
        (3, "patches", ProbeConfig(seed=3, n_neighbours=2, n_path_shuffles=7, logistic=True), None),
    ],
)
def test_stored_scores_are_those_of_the_stored_activations(ready, layer, tokens, config, split):
    plan = plan_probe(ready.service, layer=layer, tokens=tokens, probe=config, split=split)
    assert run_jobs(ready.service, plan) == ["succeeded"] * len(plan.jobs)
    row, levels = probe_of(ready.service, plan)
    expected = expected_of(ready, plan, config, split)
    assert expected.levels.n_groups.max() == N_CLASSES
    assert len(levels) == len(expected.levels.level)
    for name, column in expected.levels.columns().items():
        assert_close([level[name] for level in levels], column, name)
    assert set(levels[0]) == {"class_probe_id", *expected.levels.columns()}
    for name in ("probe_accuracy", "probe_chance", "knn_accuracy", "nn_accuracy"):
        assert row[name] == levels[-1][name]
    assert row["n_images"] == levels[0]["n_train"] + levels[0]["n_test"]
    assert row["n_images"] == len(ready.labels) if split is None else row["n_images"] < len(ready.labels)
    assert row["n_neighbours"] == expected.k
    assert (row["classifier"], row["undefined"]) == ("ridge", None)
    of_split = {} if split is None else {"split": split.model_dump(mode="json")}
    assert row["config"] == config.model_dump() | of_split | {"format": 1}
    paths = expected.paths
    for name, value in (
        ("path_correlation", paths.cosine), ("path_correlation_shuffled", paths.shuffled_cosine_mean),
        ("path_correlation_shuffled_sd", paths.shuffled_cosine_sd),
    ):  # fmt: skip
        assert_close(row[name], value, name)
    if config.logistic:
        assert (row["logistic_accuracy"], row["logistic_l2"]) == (expected.logistic.accuracy, expected.logistic.l2)
    else:
        assert (row["logistic_accuracy"], row["logistic_l2"]) == (None, None)

    # Every analysis of the layer finds it by its activation set.
    (found,) = query(
        ready.service,
        "SELECT v.* FROM layer_progress v JOIN analysis a ON a.id = v.analysis_id WHERE a.job_id = :id",
        id=job_id(plan, "analyze"),
    )
    for name in ("probe_accuracy", "knn_accuracy", "path_correlation", "path_correlation_shuffled"):
        assert found[name] == row[name]
    by_level = query(
        ready.service, "SELECT * FROM level_score WHERE analysis_id = :id ORDER BY level", id=found["analysis_id"]
    )
    assert [{name: scores[name] for name in level} for scores, level in zip(by_level, levels, strict=True)] == levels


def test_a_layer_is_probed_once_for_all_its_saes_and_studies(ready):
    plans = [
        plan_probe(ready.service, layer=2, sae=SaeConfig(kind="topk", k=k, expansion=2, n_steps=20), seed=seed)
        for k, seed in ((3, 11), (5, 11), (5, 12))
    ]
    assert len({plan.study_id for plan in plans}) == 3
    assert len({job_id(plan, "probe") for plan in plans}) == 1
    other = plan_probe(ready.service, layer=2, sae=SaeConfig(kind="topk", k=3, expansion=2, n_steps=20), seed=11,
                       probe=ProbeConfig(seed=1))  # fmt: skip
    assert job_id(other, "analyze") == job_id(plans[0], "analyze")
    assert job_id(other, "probe") != job_id(plans[0], "probe")
    assert other.study_id != plans[0].study_id
    # The analyses do not wait for it.
    for plan in plans:
        run_jobs(ready.service, plan, "extract", "train", "analyze", "compare")
    states = query(
        ready.service,
        "SELECT j.kind, j.state FROM job j JOIN study_job s ON s.job_id = j.id WHERE study_id = :id",
        id=plans[0].study_id,
    )
    assert {row["kind"]: row["state"] for row in states} == dict.fromkeys(
        ("extract", "train", "analyze", "compare"), "succeeded"
    ) | {"probe": "queued"}
    assert run_jobs(ready.service, plans[0], "probe") == ["succeeded"]
    rows = query(
        ready.service,
        "SELECT DISTINCT class_probe_id FROM level_score v JOIN analysis_input i USING (analysis_id) WHERE i.layer = 2",
    )
    assert len(rows) == 1


def test_a_crash_after_publishing_probes_nothing_again(ready, monkeypatch):
    plan = plan_probe(ready.service, layer=1)
    run_jobs(ready.service, plan, "extract")
    with attempt(ready.service, job_id(plan, "probe"), stop_at=1) as given, pytest.raises(OSError, match="by the test"):
        stage.probe(*given)
    assert query(ready.service, "SELECT 1 FROM class_probe WHERE job_id = :id", id=job_id(plan, "probe")) == []
    with attempt(ready.service, job_id(plan, "probe")) as given:
        first = stage.probe(*given)
    monkeypatch.setattr(stage, "class_information", None)
    with attempt(ready.service, job_id(plan, "probe")) as given:
        assert stage.probe(*given) == first
    assert run_jobs(ready.service, plan, "probe") == ["succeeded"]
    assert len(query(ready.service, "SELECT 1 FROM class_probe WHERE job_id = :id", id=job_id(plan, "probe"))) == 1


def test_of_a_large_data_set_the_same_share_of_every_class_is_probed(ready, monkeypatch):
    monkeypatch.setattr(stage, "MAX_IMAGES", 12)
    plan = plan_probe(ready.service, layer=4)
    assert run_jobs(ready.service, plan, "extract", "probe") == ["succeeded"] * 2
    row, levels = probe_of(ready.service, plan)
    assert row["n_images"] == levels[0]["n_train"] + levels[0]["n_test"]
    assert N_CLASSES <= row["n_images"] < len(ready.labels)
    assert levels[-1]["n_groups"] == N_CLASSES


def test_probes_that_are_undefined_say_which_images_have_several_classes(service):
    """One data set has an image of two classes: it is scored, then it trains."""
    register(service, "one", listed(service.folder / "one", DRAWN, CLASSES[:3]))
    several = listed(service.folder / "several", OTHER, CLASSES[:3])
    path, label, group = several.read_text().splitlines()[1].split(",")
    assert label == CLASSES[0]
    several.write_text(f"{several.read_text()}\n{path},{CLASSES[1]},{group}\n")
    register(service, "several", several)
    for trains, scores, why in (
        ("one", "several", "images of this data set have several classes: "),
        ("several", "one", "images that train have several classes: "),
    ):
        request = request_of(score_dataset=scores, scoring=bare_scoring()).model_copy(update={"dataset": trains})
        plan = submit(request, service.settings, service.sessions)
        assert set(run_jobs(service, plan, "extract", "probe")) <= {"succeeded", "not queued"}
        row, levels = probe_of(service, plan)
        assert row["undefined"].startswith(why)
        assert (row["probe_accuracy"], row["n_images"], levels) == (None, 0, [])
