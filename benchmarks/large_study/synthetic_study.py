"""Fills a catalog with a study as large as one wants: random scores in the shape that real analyses store.

The taxonomy is WordNet's, induced by leaf synsets chosen like ImageNet's (many dogs, other animals, artifacts, food).
Every latent prefers a node, knows its hypernyms too and some nodes by chance, better in later layers. The rows have
the numbers and widths of real ones; the scores mean nothing.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from benchmarks.large_study.synthetic_columns import DEAD_SHARE, Columns, best_of_nodes
from benchmarks.large_study.synthetic_edges import class_probe_level_rows, edges_and_families
from benchmarks.large_study.synthetic_resampled import (
    latent_stability_rows,
    layer_replicate_rows,
    layer_tree_shuffle_rows,
    node_absorption_rows,
    trends,
)
from benchmarks.large_study.synthetic_taxonomy import Nodes, enter_inputs
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import (
    ActivationSet,
    Analysis,
    ClassProbe,
    Comparison,
    Job,
    LayerScore,
    Model,
    Sae,
    Study,
    StudyJob,
    transaction,
)
from hsae.catalog.server.bulk_copy import copy_rows, load_node_scores
from hsae.hierarchy.resampling.resampled import HEADLINES
from hsae.hierarchy.study.intervals import (
    ComparedGroup,
    Difference,
    Score,
    compared_pairs,
)
from hsae.pipeline.stages.compare import difference_rows, score_rows, trend_rows
from hsae.vocabulary.bases import BASES

# How well the columns of every basis know the nodes, the SAE's being 1.
_QUALITY = {
    "sae": 1.0, "exemplar": 0.6, "kmeans": 0.6, "neuron": 0.5, "pca": 0.4, "random": 0.4, "untrained": 0.3,
}  # fmt: skip
_FURTHER_DRAWS = [("random", draw) for draw in range(1, 5)]
_SHUFFLED_QUALITY = {"shuffled_labels": 0.1, "shuffled_taxonomy": 0.2}


@dataclass(frozen=True, slots=True)
class StudySize:
    """How much is filled in; the bases `neuron` and `pca` have 2 x d_model columns each, all others n_latents."""

    n_classes: int = 1_000
    images_per_class: int = 50
    n_layers: int = 12
    n_latents: int = 12_288
    d_model: int = 1_536
    sae_kinds: tuple[str, ...] = ("relu",)
    n_seeds: int = 2


def fill_study(sessions: sessionmaker[Session], size: StudySize) -> Nodes:
    """Enter the data set, one analysis per layer and SAE kind, and their comparison; each in its own transaction."""
    with transaction(sessions) as session:
        nodes = enter_inputs(session, size.n_classes, size.images_per_class)
        model = Model(
            name="synthetic/vit-giant", revision="0", model_type="dinov2", n_layers=size.n_layers,
            d_model=size.d_model, n_patches=256, preprocessing={"image_size": [224, 224]},
        )  # fmt: skip
        study = Study(name="synthetic", request={})
        session.add_all([model, study])
        session.flush()
        model_id, study_id = model.id, study.id
    rng = np.random.default_rng(1)
    analyses = []
    for kind in size.sae_kinds:
        for layer in range(size.n_layers):
            with transaction(sessions) as session:
                analysis = _enter_analysis(session, nodes, size, model_id, study_id, layer, kind)
                _enter_scores(session, analysis, nodes, size, layer, rng)
                analyses.append(ComparedGroup(analysis, f"{kind}-{layer}", layer, kind))
    with transaction(sessions) as session:
        _enter_comparison(session, nodes, size, study_id, analyses, rng)
    return nodes


def _enter_analysis(
    session: Session, nodes: Nodes, size: StudySize, model_id: int, study_id: int, layer: int, kind: str
) -> int:
    jobs = [
        Job(key=f"{name}-{kind}-{layer}", kind=name, queue="cpu", title=f"{name} {kind} layer {layer}", request={},
            state="succeeded", max_attempts=3, started_at=func.now(), finished_at=func.now())
        for name in ("extract", "train", "analyze", "probe")
    ]  # fmt: skip
    session.add_all(jobs)
    session.flush()
    session.add_all([StudyJob(study_id=study_id, job_id=job.id, reused=False) for job in jobs])
    activations = ActivationSet(
        key=jobs[0].key, model_id=model_id, dataset_id=nodes.dataset_id, job_id=jobs[0].id, layer=layer, tokens="cls",
        dtype="float32", n_views=1,
    )  # fmt: skip
    session.add(activations)
    session.flush()
    sae = Sae(
        key=jobs[1].key, activation_set_id=activations.id, job_id=jobs[1].id, kind=kind, config={"kind": kind},
        expansion=size.n_latents // size.d_model, n_latents=size.n_latents, seed=0, n_steps=1, fvu=0.2, cosine=0.9,
        l0=64.0, dead_share=DEAD_SHARE, metrics={}, weights_sha256="0",
    )  # fmt: skip
    session.add(sae)
    session.flush()
    analysis = Analysis(
        key=jobs[2].key, sae_id=sae.id, dataset_id=nodes.dataset_id, job_id=jobs[2].id,
        config={"association": "topk"}, n_images=nodes.n_total, activations_sha256="0", class_sums_sha256="0",
    )  # fmt: skip
    session.add(analysis)
    session.add(
        ClassProbe(
            key=jobs[3].key, activation_set_id=activations.id, dataset_id=nodes.dataset_id, job_id=jobs[3].id,
            config={}, classifier="ridge", n_images=nodes.n_total, n_neighbours=20,
        )
    )  # fmt: skip
    session.flush()
    return analysis.id


def _enter_scores(
    session: Session, analysis: int, nodes: Nodes, size: StudySize, layer: int, rng: np.random.Generator
) -> None:
    depth = (layer + 1) / size.n_layers
    tables, columns = [], {}
    for basis, quality in _QUALITY.items():
        n_columns = 2 * size.d_model if basis in ("neuron", "pca") else size.n_latents
        columns[basis] = Columns(nodes, n_columns, quality * depth, rng)
        tables.append(columns[basis].node_scores(analysis, basis))
        copy_rows(session, "latent", columns[basis].latents(analysis, basis))
        copy_rows(session, "latent_place", columns[basis].places(analysis, basis))
        _enter_edges(session, edges_and_families(analysis, basis, columns[basis], rng))
    shuffled = [(basis, seed) for basis in _SHUFFLED_QUALITY for seed in range(size.n_seeds)]
    for basis, draw in _FURTHER_DRAWS:
        tables.append(best_of_nodes(analysis, basis, draw, nodes, size.n_latents, _QUALITY[basis] * depth, rng))
    for basis, seed in shuffled:
        quality = _SHUFFLED_QUALITY[basis] * depth
        tables.append(best_of_nodes(analysis, basis, seed, nodes, size.n_latents, quality, rng))
        _enter_edges(session, edges_and_families(analysis, basis, columns["sae"], rng, seed=seed))
    for basis, seed in [("sae", 0), *(each for each in shuffled if each[0] == "shuffled_taxonomy")]:
        copy_rows(session, "node_absorption", node_absorption_rows(analysis, basis, columns["sae"], rng, seed=seed))
    probe = session.scalars(
        select(ClassProbe)
        .join(Sae, Sae.activation_set_id == ClassProbe.activation_set_id)
        .join(Analysis, Analysis.sae_id == Sae.id)
        .where(Analysis.id == analysis)
    ).one()
    probe.probe_accuracy, probe.knn_accuracy, probe.nn_accuracy = depth, 0.9 * depth, 0.8 * depth
    probe.path_correlation, probe.path_correlation_shuffled = depth / 2, 0.0
    copy_rows(session, "class_probe_level", class_probe_level_rows(probe.id, nodes, depth, rng))
    heights = np.bincount(nodes.taxonomy.height).tolist()
    bases = [*((basis, 0) for basis in _QUALITY), *_FURTHER_DRAWS, *shuffled]
    for basis, seed in bases:
        session.add(_layer_score(analysis, basis, seed, size, len(nodes.ids), heights, depth))
    copy_rows(session, "layer_replicate", layer_replicate_rows(analysis, bases, rng))
    copy_rows(session, "layer_tree_shuffle", layer_tree_shuffle_rows(analysis, rng))
    session.flush()
    load_node_scores(session, analysis, pa.concat_tables(tables))


def _enter_edges(session: Session, tables: tuple[pa.Table, pa.Table]) -> None:
    for name, rows in zip(("latent_edge", "latent_family"), tables, strict=True):
        copy_rows(session, name, rows)


def _enter_comparison(
    session: Session,
    nodes: Nodes,
    size: StudySize,
    study_id: int,
    analyses: list[ComparedGroup],
    rng: np.random.Generator,
) -> None:
    job = Job(key="compare", kind="compare", queue="cpu", title="compare", request={}, state="succeeded",
              max_attempts=3, started_at=func.now(), finished_at=func.now())  # fmt: skip
    session.add(job)
    session.flush()
    comparison = Comparison(key="compare", job_id=job.id, dataset_id=nodes.dataset_id, config={"confidence": 0.95})
    session.add_all([comparison, StudyJob(study_id=study_id, job_id=job.id, reused=False)])
    session.flush()
    columns = [(analysis.number, basis) for analysis in analyses for basis in BASES]
    scores, differences = [], []
    for metric in HEADLINES:
        for number, basis in columns:
            value = rng.random()
            scores.append(Score(number, basis, metric, value, value - 0.02, value + 0.02, len(nodes.ids), 1, 1))
        for one, other in compared_pairs(analyses, columns):
            value = rng.normal(0, 0.1)
            differences.append(
                Difference(metric, *one, *other, value, value - 0.03, value + 0.03, len(nodes.ids), 1, 1)
            )
    copy_rows(session, "comparison_score", score_rows(comparison.id, scores))
    copy_rows(session, "comparison_difference", difference_rows(comparison.id, differences))
    first = [analysis.number for analysis in analyses if analysis.layer == 0]
    copy_rows(session, "comparison_trend", trend_rows(comparison.id, trends(first, size.n_layers, rng)))
    for analysis in analyses:
        rows = latent_stability_rows(comparison.id, analysis.number, size.n_latents, rng)
        copy_rows(session, "latent_stability", rows)


def _layer_score(
    analysis: int, basis: str, seed: int, size: StudySize, n_nodes: int, heights: list[int], depth: float
) -> LayerScore:
    value = 0.6 * depth * (_QUALITY | _SHUFFLED_QUALITY)[basis]
    return LayerScore(
        analysis_id=analysis, basis=basis, seed=seed, n_latents=size.n_latents, n_dead=0, dead_share=0.0, l0=64.0,
        lch_height_mean=8 - 4 * value, coverage_mean=value, n_nodes=n_nodes, share_nodes_f1=value,
        share_nodes_q=value, share_nodes_rarefied=value, n_rarefied=size.n_latents, best_f1_mean=value,
        best_f1_inner_mean=value, best_f1_adjusted_mean=value, best_f1_adjusted_single_mean=value,
        best_f1_adjusted_pair_mean=value, best_f1_adjusted_inner_mean=value, fvu=0.2, cosine=0.9,
        coherence=2 + value, coherence_null=2.0, coherence_excess=value, coherence_excess_weighted=value,
        coherence_p=None if basis.startswith("shuffled") else 0.001, purity=value, purity_null=0.001,
        lch_excess_mean=value, n_coherent=size.n_latents, n_lch_eligible=size.n_latents,
        by_height=[
            {"height": height, "n_nodes": count, "n_f1": round(count * value), "n_q": round(count * value)}
            for height, count in enumerate(heights)
        ],
    )  # fmt: skip
