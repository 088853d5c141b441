"""The parts of a data set in its jobs: what trains, what selects, what is scored."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sqlalchemy import select, text
from tests.pipeline.in_process import TINY_SAE, job_id, run_jobs
from tests.small import link_classes, quick_scoring, register, small_request

from hsae.catalog import Dataset, transaction
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.exports.export import export_analysis
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.image_split import read_split
from hsae.pipeline.inputs.stored import read_listing
from hsae.pipeline.planning.submit import submit
from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.trainer import train
from hsae.split_config import SplitConfig
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors

N_CLASSES = 6
SCORING = quick_scoring(n_shuffles=1, controls=("untrained",), embeddings="own")


def query(service, statement, **values):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(statement), values).mappings()]


def listed(folder, *, grouped):
    """A CSV of the first bundled classes, one of whose images is damaged, with or without their styles."""
    root = link_classes(folder, N_CLASSES)
    damaged = folder / "damaged.png"
    damaged.write_bytes(b"no image")
    paths = sorted(path.relative_to(folder) for path in root.glob("*/*"))
    rows = [(path.as_posix(), path.parent.name, path.name.split(".")[-2]) for path in paths]
    rows.append(("damaged.png", rows[0][1], rows[0][2]))
    csv = folder / ("grouped.csv" if grouped else "plain.csv")
    csv.write_text("\n".join(["path,label,group", *(",".join(row if grouped else (*row[:2], "")) for row in rows)]))
    return csv


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with the same images with and without groups."""
    service = make_service(max_skipped_share=0.2)
    for name in ("plain", "grouped"):
        register(service, name, listed(service.folder, grouped=name == "grouped"))
    return service


def finished(service, dataset="plain", **changes):
    """A finished study, and the rows of its SAE and its analysis."""
    request = small_request(
        dataset, layers=(3,), saes=(TINY_SAE,), scoring=SCORING,
        extraction=ExtractionConfig(shard_images=9, batch_size=6), **changes,
    )  # fmt: skip
    plan = submit(request, service.settings, service.sessions)
    run_jobs(service, plan)
    states = query(service, "SELECT state, error FROM job WHERE id = ANY(:ids)", ids=[job.id for job in plan.jobs])
    assert {row["state"] for row in states} == {"succeeded"}, states
    (sae,) = query(service, "SELECT * FROM sae WHERE job_id = :id", id=job_id(plan, "train"))
    (analysis,) = query(service, "SELECT * FROM analysis WHERE job_id = :id", id=job_id(plan, "analyze"))
    with transaction(service.sessions) as session:
        ref = dataset_ref(session.scalars(select(Dataset).where(Dataset.name == dataset)).one())
    split = None if request.split is None else read_split(service.store, ref, request.split)
    return SimpleNamespace(plan=plan, sae=sae, analysis=analysis, split=split)


@pytest.fixture(scope="module")
def split(ready):
    """A study with the default split."""
    return finished(ready, split=SplitConfig())


def test_only_the_rows_of_train_images_are_trained_on(ready, split):
    shards = query(
        ready,
        "SELECT object_key FROM activation_shard h JOIN activation_set s ON s.id = h.activation_set_id"
        " WHERE s.id = :id ORDER BY shard",
        id=split.sae["activation_set_id"],
    )
    tensors = [get_tensors(ready.store, shard["object_key"], sha256=None)[0] for shard in shards]
    columns = [torch.cat([part[name] for part in tensors]) for name in ("activations", "image_index", "view")]
    kept = torch.from_numpy(split.split.train)[columns[1].long()]
    assert 0 < kept.sum() < len(kept)
    expected = train(TINY_SAE, TrainingRows(*(column[kept] for column in columns)), device=torch.device("cpu"))
    key = weights_key(split.sae["key"], split.sae["weights_sha256"])
    stored, _ = get_tensors(ready.store, key, sha256=split.sae["weights_sha256"])
    for name, tensor in expected.sae.to_tensors().items():
        assert torch.equal(stored[name], tensor), name
    assert split.sae["metrics"]["n_train_rows"] + split.sae["metrics"]["n_holdout_rows"] == kept.sum()


def test_the_analysis_says_what_its_images_did(ready, split):
    n_listed = len(split.split.part)
    assert split.analysis["n_images"] == n_listed - 1  # one is damaged
    assert split.analysis["split"] == {
        "train": 0.5, "select": 0.25, "score": 0.25, "seed": 0, "by": "images", "is_halved": False,
    }  # fmt: skip
    sizes = [split.analysis[name] for name in ("n_train", "n_select", "n_score")]
    (damaged,) = query(ready, "SELECT skipped FROM activation_shard WHERE skipped <> '[]'")
    readable = np.ones(n_listed, bool)
    readable[[entry["image"] for entry in damaged["skipped"]]] = False
    parts = (split.split.train, split.split.select, split.split.score)
    assert sizes == [int((part & readable).sum()) for part in parts]
    assert sum(sizes) == split.analysis["n_images"]


def test_scores_are_of_the_score_images(ready, split):
    rows = query(
        ready,
        "SELECT max(n_images) AS n_images, max(n_fire) AS n_fire FROM node_score WHERE analysis_id = :id",
        id=split.analysis["id"],
    )
    assert rows == [{"n_images": split.analysis["n_score"], "n_fire": rows[0]["n_fire"]}]
    assert rows[0]["n_fire"] <= split.analysis["n_score"]
    top = query(
        ready,
        "SELECT top_images FROM latent WHERE analysis_id = :id AND top_images <> '[]'", id=split.analysis["id"]
    )  # fmt: skip
    shown = {image["image"] for row in top for image in row["top_images"]}
    assert shown
    assert shown <= set(np.flatnonzero(split.split.score).tolist())


def test_an_export_says_what_every_image_did(ready, split, tmp_path):
    export_analysis(split.analysis["id"], tmp_path / "out", ready.sessions, ready.store)
    images = pq.read_table(tmp_path / "out" / "images.parquet")
    parts = np.array(["train", "select", "score"])[split.split.part[images["image"].to_numpy()]]
    assert images["part"].to_pylist() == parts.tolist()
    assert json.loads((tmp_path / "out" / "analysis.json").read_text())["split"] == split.analysis["split"]
    assert "| `part` | string |" in (tmp_path / "out" / "README.md").read_text()


def test_without_a_split_every_image_does_everything(ready, split):
    in_sample = finished(ready, split=None)
    assert [in_sample.analysis[name] for name in ("split", "n_train", "n_select", "n_score")] == [None] * 4
    assert in_sample.analysis["n_images"] == split.analysis["n_images"]
    assert in_sample.sae["key"] != split.sae["key"]
    assert in_sample.sae["activation_set_id"] == split.sae["activation_set_id"], "activations are shared"
    assert in_sample.sae["metrics"]["n_train_rows"] > split.sae["metrics"]["n_train_rows"]


def test_groups_are_split_as_a_whole(ready):
    found = finished(ready, "grouped", split=SplitConfig())
    assert found.analysis["split"]["by"] == "groups"
    assert found.split.by == "groups"
    part_of: dict[str, set[int]] = {}
    with transaction(ready.sessions) as session:
        dataset = session.scalars(select(Dataset).where(Dataset.name == "grouped")).one()
    listing = read_listing(ready.store, dataset_ref(dataset))
    for group, part in zip(listing["group"].to_pylist(), found.split.part.tolist(), strict=True):
        part_of.setdefault(group, set()).add(part)
    assert len(part_of) == 5
    assert all(len(parts) == 1 for parts in part_of.values())


def test_one_group_cannot_be_split(ready):
    rows = (ready.folder / "plain.csv").read_text().splitlines()[1:-1]
    path = ready.folder / "one.csv"
    path.write_text("\n".join(["path,label,group", *(f"{row.removesuffix(',')},noto" for row in rows)]))
    register(ready, "one", path)
    request = small_request("one", layers=(3,), saes=(TINY_SAE,), scoring=SCORING, split=SplitConfig())
    with pytest.raises(UserError, match="all images are of the group noto, and a group is not divided"):
        submit(request, ready.settings, ready.sessions)
    plan = submit(request, ready.settings, ready.sessions, is_halved=False)  # without a look at the images
    assert run_jobs(ready, plan, "extract", "train") == ["succeeded", "failed"]
    (job,) = query(ready, "SELECT error FROM job WHERE id = :id", id=job_id(plan, "train"))
    assert job["error"].startswith("all images are of the group noto, and a group is not divided")
