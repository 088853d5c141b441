"""A small request over bundled images: big enough that every stage takes a second or more, small enough for tests."""

import functools
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text

from hsae.catalog import LIVE_STATES, Dataset, transaction
from hsae.catalog.queries.conditions import Row
from hsae.catalog.queries.jobs import list_jobs
from hsae.datasets import scan
from hsae.demo import backbone_folder, images_folder
from hsae.extraction.config import ExtractionConfig
from hsae.hierarchy.config import ScoringConfig
from hsae.pipeline.inputs.register import register_images
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.pipeline.planning.submit import Plan, submit
from hsae.pipeline.queue.notifier import Notifier
from hsae.relevancy.config import MapSettings
from hsae.sae.config import SaeConfig
from hsae.taxonomy import load_taxonomy

_load_taxonomy = functools.cache(load_taxonomy)  # WordNet takes seconds


def link_classes(folder: Path, n_classes: int) -> Path:
    """A data set of the first classes of the bundled images, as links."""
    target = folder / "images"
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted(images_folder().iterdir())[:n_classes]:
        link = target / source.name
        if not link.exists():
            link.symlink_to(source, target_is_directory=True)
    return target


ONE_WAY: dict[str, Any] = {"cross_fit": False}
"""Of a request: too few images for three parts are halved one way, which takes half of the jobs of cross-fitting."""


def few_images(folder: Path, n_classes: int, n_images: int = 2) -> Path:
    """A data set of the first images of the first classes of the bundled ones, as links: too few for three parts."""
    target = folder / "images"
    for source in sorted(images_folder().iterdir())[:n_classes]:
        (target / source.name).mkdir(parents=True)
        for image in sorted(source.iterdir())[:n_images]:
            (target / source.name / image.name).symlink_to(image)
    return target


def quick_scoring(**changes: Any) -> ScoringConfig:
    """Every kind of basis and number, each with few replicates: what tests of the pipeline need."""
    few = {"n_shuffles": 1, "n_replicates": 4, "n_tree_shuffles": 3, "n_random": 1}
    return ScoringConfig(**{**few, **changes})


def bare_scoring(**changes: Any) -> ScoringConfig:
    """The SAE alone, with its own layer's embeddings: for tests that look at jobs and objects, not at scores."""
    return quick_scoring(**{"n_shuffles": 0, "controls": (), "embeddings": "own", **changes})


def small_request(dataset: str | None = "small", **changes: Any) -> SubmitRequest:
    """Two layers of the bundled backbone, one TopK SAE each."""
    values: dict[str, Any] = {
        "model": str(backbone_folder()),
        "dataset": dataset,
        "layers": (1, 3),
        "saes": (SaeConfig(kind="topk", k=8, expansion=4, n_steps=200),),
        "extraction": ExtractionConfig(shard_images=40, batch_size=20),
        "scoring": quick_scoring(),
        "split": None,  # of so few images each has to do everything
    }
    return SubmitRequest(**{**values, **changes})


WITH_MAPS = MapSettings(latents=4, images=2, methods=("chefer", "gradient"), batch_size=4)
"""The settings of a stage that runs only where it is asked for."""


def mapped_request(**changes: Any) -> SubmitRequest:
    """The small request with maps."""
    return small_request(own={"map": WITH_MAPS}, **changes)


def register(service, name: str, path: Path, tree: Path | None = None) -> tuple[Dataset, bool]:
    """Register the images at `path`, under WordNet or a custom tree."""
    taxonomy = _load_taxonomy(tree)
    return register_images(name, scan(path, taxonomy), taxonomy, service.sessions, service.store)


def register_small(service, n_classes: int = 40) -> None:
    """Register the first bundled classes under the name `small`."""
    register(service, "small", link_classes(service.folder, n_classes))


def submit_small(service, **changes: Any) -> Plan:
    """Submit the small request and notify the workers."""
    return _submit(service, small_request(**changes))


def submit_mapped(service, **changes: Any) -> Plan:
    """Submit the small request with a job of every kind, and notify the workers."""
    return _submit(service, mapped_request(**changes))


def _submit(service, request: SubmitRequest) -> Plan:
    plan = submit(request, service.settings, service.sessions)
    Notifier(service.settings).notify(plan.to_notify)
    return plan


def wait_until_done(service, study_id: int, seconds: float = 480) -> list[Row]:
    """Wait for a study's jobs; returns them."""
    deadline = time.monotonic() + seconds
    while True:
        with transaction(service.sessions) as session:
            jobs = list_jobs(session, study_id=study_id)
        if not any(job["state"] in LIVE_STATES for job in jobs):
            return jobs
        states = [(job["title"], job["state"], job["error"]) for job in jobs]
        assert time.monotonic() < deadline, f"{states}\n{service.logs()}"
        time.sleep(0.2)  # a look takes processor time from the workers


_RESULTS = {
    "activations": "SELECT s.key, h.shard, h.sha256, h.n_rows FROM activation_shard h"
    " JOIN activation_set s ON s.id = h.activation_set_id ORDER BY 1, 2",
    "manifests": "SELECT key, manifest_sha256, n_rows, n_images FROM activation_set ORDER BY 1",
    "saes": "SELECT key, weights_sha256, fvu, cosine, l0, dead_share, n_steps, metrics::text FROM sae ORDER BY 1",
    "curves": "SELECT sae_key, step, loss, reconstruction_loss, sparsity_loss, auxiliary_loss, fvu, l0, train_fvu,"
    " train_l0, dead_share, learning_rate FROM sae_curve ORDER BY 1, 2",
    "analyses": "SELECT key, activations_sha256, class_sums_sha256, n_images FROM analysis ORDER BY 1",
    "node scores": "SELECT a.key, y.wnid, n.* FROM node_score n JOIN analysis a ON a.id = n.analysis_id"
    " JOIN synset y ON y.id = n.synset_id ORDER BY 1, n.basis, n.seed, n.latent, 2",
    "latents": "SELECT a.key, l.* FROM latent l JOIN analysis a ON a.id = l.analysis_id ORDER BY 1, l.basis, l.latent",
    "places": "SELECT a.key, p.* FROM latent_place p JOIN analysis a ON a.id = p.analysis_id"
    " ORDER BY 1, p.basis, p.rule, p.latent",
    "layers": "SELECT a.key, c.* FROM layer_score c JOIN analysis a ON a.id = c.analysis_id"
    " ORDER BY 1, c.basis, c.seed",
    "edges": "SELECT a.key, x.* FROM latent_edge x JOIN analysis a ON a.id = x.analysis_id"
    " ORDER BY 1, x.basis, x.seed, x.source, x.parent, x.child",
    "families": "SELECT a.key, f.* FROM latent_family f JOIN analysis a ON a.id = f.analysis_id"
    " ORDER BY 1, f.basis, f.seed, f.source, f.parent",
    "absorption": "SELECT a.key, y.wnid, n.* FROM node_absorption n JOIN analysis a ON a.id = n.analysis_id"
    " JOIN synset y ON y.id = n.synset_id ORDER BY 1, n.basis, n.seed, 2",
    "map sets": "SELECT a.key, v.* FROM map_set v JOIN analysis a ON a.id = v.analysis_id ORDER BY 1, v.key",
    "maps": "SELECT s.key, v.* FROM latent_map v JOIN map_set s ON s.id = v.map_set_id"
    " ORDER BY 1, v.method, v.latent, v.rank",
    "intervention sets": "SELECT a.key, v.* FROM intervention_set v JOIN analysis a ON a.id = v.analysis_id"
    " ORDER BY 1, v.key",
    "readouts": "SELECT s.key, v.* FROM intervention_readout v JOIN intervention_set s"
    " ON s.id = v.intervention_set_id ORDER BY 1, v.readout",
    "interventions": "SELECT s.key, y.wnid, v.* FROM intervention v JOIN intervention_set s"
    " ON s.id = v.intervention_set_id JOIN synset y ON y.id = v.synset_id ORDER BY 1, v.number, v.readout",
    "label effects": "SELECT s.key, y.wnid, v.* FROM latent_effect v JOIN intervention_set s"
    " ON s.id = v.intervention_set_id JOIN synset y ON y.id = v.synset_id ORDER BY 1, v.readout, v.latent",
    "steerability": "SELECT s.key, v.* FROM intervention_steerability v JOIN intervention_set s"
    " ON s.id = v.intervention_set_id ORDER BY 1, v.readout, v.units, v.amount",
    "name sets": "SELECT a.key, v.* FROM name_set v JOIN analysis a ON a.id = v.analysis_id ORDER BY 1, v.key",
    "names": "SELECT s.key, v.* FROM latent_name v JOIN name_set s ON s.id = v.name_set_id ORDER BY 1, v.latent",
    "probes": "SELECT * FROM class_probe ORDER BY key",
    "levels": "SELECT p.key, v.* FROM class_probe_level v JOIN class_probe p ON p.id = v.class_probe_id"
    " ORDER BY 1, v.level",
    "replicates": "SELECT a.key, v.* FROM layer_replicate v JOIN analysis a ON a.id = v.analysis_id"
    " ORDER BY 1, v.basis, v.seed, v.metric",
    "tree shuffles": "SELECT a.key, v.* FROM layer_tree_shuffle v JOIN analysis a ON a.id = v.analysis_id"
    " ORDER BY 1, v.basis, v.metric",
    "comparisons": "SELECT key, config FROM comparison ORDER BY 1",
    "stability": "SELECT c.key, a.key, s.* FROM latent_stability s JOIN comparison c ON c.id = s.comparison_id"
    " JOIN analysis a ON a.id = s.analysis_id ORDER BY 1, 2, s.latent",
    "comparison scores": "SELECT c.key, a.key, v.* FROM comparison_score v JOIN comparison c ON c.id = v.comparison_id"
    " JOIN analysis a ON a.id = v.analysis_id ORDER BY 1, 2, v.basis, v.metric",
    "comparison differences": "SELECT c.key, a.key, o.key, v.* FROM comparison_difference v"
    " JOIN comparison c ON c.id = v.comparison_id JOIN analysis a ON a.id = v.analysis_id"
    " JOIN analysis o ON o.id = v.other_analysis_id ORDER BY 1, 2, 3, v.basis, v.other_basis, v.metric",
    "comparison trends": "SELECT c.key, a.key, v.* FROM comparison_trend v JOIN comparison c ON c.id = v.comparison_id"
    " JOIN analysis a ON a.id = v.analysis_id ORDER BY 1, 2, v.metric",
}
_IDS = {
    "analysis_id",
    "parent_synset_id",
    "child_synset_id",
    "other_analysis_id",
    "comparison_id",
    "class_probe_id",
    "map_set_id",
    "intervention_set_id",
    "name_set_id",
    "activation_set_id",
    "dataset_id",
    "job_id",
    "id",
    "created_at",
    "synset_id",
    "lch_synset_id",
    "label_synset_id",
}  # fmt: skip -- what depends on the order and the time of inserts


def all_results(service) -> dict[str, list[tuple[object, ...]]]:
    """Everything that the pipeline made, to the last bit, without row ids."""
    found = {}
    with transaction(service.sessions) as session:
        for name, query in _RESULTS.items():
            rows = session.execute(text(query))
            keep = [i for i, column in enumerate(rows.keys()) if column not in _IDS]
            found[name] = [tuple(row[i] for i in keep) for row in rows]
    return found
