"""Stage analyze: one SAE, its controls and the taxonomy -> every score in Postgres, every activation in the store."""

import logging

import numpy as np
import torch
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from hsae.catalog import Analysis, Json, LayerScore, Sae
from hsae.catalog.bulk import copy_rows, load_node_scores
from hsae.errors import UserError
from hsae.hierarchy import BasisResult, analyse, linear_probe
from hsae.pipeline.activations import open_activation_set
from hsae.pipeline.context import StageContext
from hsae.pipeline.latent_activations import LatentActivations, encode_images, put_latent_activations
from hsae.pipeline.register import node_ids, read_listing, read_taxonomy
from hsae.pipeline.requests import AnalyzeRequest
from hsae.pipeline.score_rows import latent_place_rows, latent_rows, layer_score_row, node_score_rows
from hsae.sae import SaeConfig, SparseAutoencoder
from hsae.store import (
    ANALYSES,
    ObjectCorruptError,
    ObjectMissingError,
    ObjectStore,
    StoredObject,
    artifact_prefix,
    class_sums_key,
    get_tensors,
    latents_key,
    put_tensors,
    weights_key,
)
from hsae.taxonomy import InducedTaxonomy

log = logging.getLogger(__name__)


def analyze(request: AnalyzeRequest, context: StageContext) -> Json:
    """Score the SAE and its controls, and publish everything in one transaction.

    Raises:
        UserError: when the SAE or its activations are not there, or hold NaN.
    """
    with context.reading() as session:
        done = session.execute(select(Analysis).where(Analysis.key == request.key)).scalar_one_or_none()
        sae_row = session.execute(select(Sae).where(Sae.key == request.sae_key)).scalar_one_or_none()
    if done is not None and _is_stored(done, context):  # a former attempt ended between publishing and saying so
        return {"analysis": done.id, "n_images": done.n_images}
    if sae_row is None:
        raise UserError(f"SAE {request.sae_key} is not there: submit the request again to train it")
    weights_sha256 = sae_row.weights_sha256
    tensors, _ = get_tensors(context.store, weights_key(request.sae_key, weights_sha256), sha256=weights_sha256)
    sae = SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(sae_row.config))
    _, manifest = open_activation_set(context, request.activation_key)
    taxonomy = read_taxonomy(context.store, request.dataset)
    listing = read_listing(context.store, request.dataset)

    latents, raw = encode_images(sae, manifest, context)
    position = {taxonomy.synsets[node].id: i for i, node in enumerate(taxonomy.classes.tolist())}
    class_ids, paths = (listing[name].take(latents.images).to_pylist() for name in ("class_id", "path"))
    labels = np.array([position[class_id] for class_id in class_ids])
    log.info("scoring %d latents on %d images against %d nodes", sae.n_latents, len(labels), len(taxonomy.synsets))
    scoring = request.scoring
    n_nodes = len(taxonomy.synsets)

    def on_latents(n_done: int, n_total: int) -> None:
        context.progress(n_done * n_nodes, n_total * n_nodes, "pairs")
        context.check()

    results = analyse(
        latents.z,
        labels,
        taxonomy,
        raw,
        seed=scoring.seed,
        threshold=scoring.threshold,
        n_label_shuffles=scoring.n_shuffles,
        n_taxonomy_shuffles=scoring.n_shuffles,
        association=scoring.association,
        device=context.device,
        progress=on_latents,
    )
    log.info("scored; training the linear probe")
    probe = linear_probe(raw, labels, seed=scoring.seed, device=context.device, check=context.check)
    context.check()
    log.info("storing activations and scores")
    stored_latents = put_latent_activations(context.store, request.key, latents)
    stored_sums = _put_class_sums(context, request.key, results)
    analysis_id = _publish(
        request,
        context,
        sae_row,
        taxonomy,
        latents,
        paths,
        results,
        probe.accuracy,
        stored_latents,
        stored_sums,
    )
    layer = results[0].layer
    return {
        "analysis": analysis_id,
        "n_images": len(latents.images),
        "lch_height_mean": layer.lch_height_mean if layer.n_associated_latents else None,
        "coverage_mean": layer.coverage_mean if layer.n_associated_latents else None,
        "share_nodes_f1": layer.f1_node_share,
    }


def _is_stored(analysis: Analysis, context: StageContext) -> bool:
    latents = latents_key(analysis.key, analysis.activations_sha256)
    sums = class_sums_key(analysis.key, analysis.class_sums_sha256)
    try:
        context.store.get(latents, sha256=analysis.activations_sha256)
        context.store.get(sums, sha256=analysis.class_sums_sha256)
    except (ObjectMissingError, ObjectCorruptError):
        return False  # lost since: the same objects are made again
    return True


def prefixes(request: AnalyzeRequest) -> list[str]:
    """Where the analysis' objects lie."""
    return [artifact_prefix(ANALYSES, request.key)]


def discard(request: AnalyzeRequest, job_id: int, session: Session, store: ObjectStore) -> None:
    """Delete what a failed analysis left behind; its rows went with its transaction."""
    del job_id
    if session.scalar(select(Analysis.id).where(Analysis.key == request.key)) is None:
        store.delete_prefix(artifact_prefix(ANALYSES, request.key))


def _put_class_sums(context: StageContext, key: str, results: list[BasisResult]) -> StoredObject:
    sums = results[0].class_sums
    assert sums is not None  # noqa: S101 -- the SAE's own basis comes first and has them
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in sums.to_arrays().items()}
    return put_tensors(context.store, class_sums_key(key), tensors, {})


def _publish(
    request: AnalyzeRequest,
    context: StageContext,
    sae_row: Sae,
    taxonomy: InducedTaxonomy,
    latents: LatentActivations,
    paths: list[str],
    results: list[BasisResult],
    probe_accuracy: float,
    stored_latents: StoredObject,
    stored_sums: StoredObject,
) -> int:
    with context.transaction() as session:
        again = update(Analysis).where(Analysis.key == request.key).returning(Analysis.id)
        published = session.scalar(
            again.values(activations_sha256=stored_latents.sha256, class_sums_sha256=stored_sums.sha256)
        )
        if published is not None:  # its rows are there; only its objects were lost
            return published
        analysis = Analysis(
            key=request.key,
            sae_id=sae_row.id,
            dataset_id=request.dataset.id,
            job_id=context.job_id,
            config=request.scoring.model_dump(mode="json"),
            n_images=len(latents.images),
            activations_sha256=stored_latents.sha256,
            class_sums_sha256=stored_sums.sha256,
        )
        session.add(analysis)
        session.flush()
        synset_ids = node_ids(session, request.dataset.id, taxonomy)
        for result in results:
            if result.latents is not None:
                rows = latent_rows(analysis.id, result.basis, result.latents, synset_ids, latents.images, paths)
                copy_rows(session, "latent", rows)
                copy_rows(session, "latent_place", latent_place_rows(analysis.id, result, synset_ids))
        for result in results:
            measured: dict[str, float | None] = {"probe_accuracy": probe_accuracy}
            if result.basis == "sae":
                measured |= {"fvu": sae_row.fvu, "cosine": sae_row.cosine}
            session.execute(insert(LayerScore).values(layer_score_row(analysis.id, result, measured)))
        load_node_scores(session, analysis.id, node_score_rows(analysis.id, results, synset_ids))
        return analysis.id
