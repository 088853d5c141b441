"""Stage analyze: one SAE, its controls and the taxonomy -> every score in Postgres, every activation in the store."""

import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Int32
from sqlalchemy import insert, select, update

from hsae.catalog import Analysis, Dataset, Json, LayerScore, LayerTreeShuffle, Sae
from hsae.catalog.server.bulk_copy import copy_rows, load_node_scores
from hsae.datasets.split import ImageSplit
from hsae.errors import UserError
from hsae.hierarchy.basis_result import BasisResult
from hsae.hierarchy.score_bases import score_bases
from hsae.hierarchy.scored_activations import ImageParts, LabelledImages, SaeActivations
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.inputs.image_split import split_listing
from hsae.pipeline.inputs.labels import joined_labels, labelled_rows
from hsae.pipeline.inputs.stored import node_ids, read_listing, read_taxonomy
from hsae.pipeline.inputs.streamed_set import streamed_rows
from hsae.pipeline.kinds.analyze import ANALYZE, AnalyzeRequest
from hsae.pipeline.stages.activation_reader import (
    StoredRows,
    open_activation_set,
    read_embeddings,
    read_plain_rows,
)
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.latent_activations import encode_images, put_latent_activations
from hsae.pipeline.stages.resampled_rows import layer_replicate_rows, layer_tree_shuffle_rows
from hsae.pipeline.stages.score_rows import (
    latent_edge_rows,
    latent_family_rows,
    latent_place_rows,
    latent_rows,
    layer_score_row,
    node_absorption_rows,
    node_score_rows,
)
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.training.initialisation import untrained_sae
from hsae.split_config import SCORE_DATASET, stored_score_split
from hsae.store.activations import ActivationManifest
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import class_sums_key, latents_key, weights_key
from hsae.store.objects import StoredObject
from hsae.store.tensors import get_tensors, put_tensors
from hsae.taxonomy import InducedTaxonomy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Scores:
    """The content of an analysis.

    Attributes:
        results: of every basis; the SAE's own comes first.
        taxonomy: the taxonomy of the nodes in the results.
        images: int32[n_images], the numbers in the scored data set's listing of its images.
        paths: the same images' paths.
        split: the columns of the analysis that say what its images were used for; empty in-sample. The name of a data
            set that is scored apart comes when they are published.
        latents: the stored latent activations.
        class_sums: the stored class sums.
    """

    results: list[BasisResult]
    taxonomy: InducedTaxonomy
    images: Int32[np.ndarray, "n_images"]
    paths: list[str]
    split: Json
    latents: StoredObject
    class_sums: StoredObject


def analyze(request: AnalyzeRequest, context: StageContext) -> Json:
    """Score the SAE and its controls, and publish everything in one transaction.

    Raises:
        UserError: the SAE, its activations or the embeddings do not exist, or contain NaN; or the images cannot be
            split.
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

    apart = request.apart
    split = None if request.division is None else split_listing(listing, request.division)
    scoring = request.scoring
    saes = [sae]
    if "untrained" in scoring.controls:
        trained = None if split is None or apart is not None else split.train
        read = streamed_rows if sae.config.rows == "stream" else StoredRows
        saes.append(untrained_sae(sae.config, read(context, manifest, trained)))
    scored_manifest = manifest if apart is None else open_activation_set(context, apart.activation_key)[1]
    further = None if apart is None else _only_training(context, manifest, apart.train_dataset, taxonomy)
    n_further = 0 if further is None else len(further.activations)
    too_many = f"{sae.n_latents} latents do not fit: give its worker more memory, or choose a smaller expansion"
    with context.device_memory(too_many):
        (latents, *untrained), raw = encode_images(saes, scored_manifest, context, n_further=n_further)
    scored = listing.take(latents.images)
    labels = joined_labels([scored] if further is None else [scored, further.labelled], taxonomy)
    n_nodes = len(taxonomy.synsets)
    log.info("scoring %d latents on %d images against %d nodes", sae.n_latents, scored.num_rows, n_nodes)
    key = request.embedding_key

    def on_latents(n_done: int, n_total: int) -> None:
        context.progress(n_done * n_nodes, n_total * n_nodes, ANALYZE.unit)
        context.check()

    given = SaeActivations(
        latents.z,
        raw.mean if further is None else raw.followed_by(further.activations),
        decoder=sae.decoder_weight.detach().cpu().numpy(),
        untrained=untrained[0].z if untrained else None,
        pooled_neurons=raw.pooled,
        pre_bias=sae.pre_bias.detach().cpu().numpy(),
        input_scale=float(sae.input_scale),
    )
    parts = None if split is None else _parts(split, latents.images, further)
    embeddings = None if key is None else read_embeddings(key, latents.images, context)
    images = LabelledImages(labels, taxonomy, embeddings, parts)
    with context.device_memory(too_many):
        results = score_bases(given, images, scoring, device=context.device, progress=on_latents)
    context.check()
    log.info("storing activations and scores")
    scores = _Scores(
        results,
        taxonomy,
        latents.images,
        scored["path"].to_pylist(),
        _split_columns(request, split, parts),
        put_latent_activations(context.store, request.key, latents),
        _put_class_sums(context, request.key, results),
    )
    analysis_id = _publish(request, context, sae_row, scores)
    layer = results[0].layer
    return {
        "analysis": analysis_id,
        "n_images": len(latents.images),
        "lch_height_mean": layer.lch_height_mean if layer.n_associated_latents else None,
        "coverage_mean": layer.coverage_mean if layer.n_associated_latents else None,
        "share_nodes_f1": layer.f1_node_share,
    }


@dataclass(frozen=True, slots=True, eq=False)
class _OnlyTraining:
    """The images of another data set that trained the SAE; those with a class of the scored taxonomy come first.

    Attributes:
        activations: a row for each, the mean of several tokens.
        labelled: the rows of the listing of those that have such a class.
    """

    activations: Float32[np.ndarray, "n_train d_model"]
    labelled: pa.Table


def _only_training(
    context: StageContext, manifest: ActivationManifest, dataset: DatasetRef, taxonomy: InducedTaxonomy
) -> _OnlyTraining:
    images, activations = read_plain_rows(context, manifest)
    listing = read_listing(context.store, dataset).take(images)
    is_labelled = labelled_rows(listing, taxonomy)
    n_labelled = int(is_labelled.sum())
    log.info("%d images of %s train, %d of classes that are scored", len(images), dataset.name, n_labelled)
    order = np.argsort(~is_labelled, kind="stable")
    return _OnlyTraining(activations[order], listing.filter(pa.array(is_labelled)))


def _parts(split: ImageSplit, images: Int32[np.ndarray, "n_images"], further: _OnlyTraining | None) -> ImageParts:
    """The parts of the images that could be read, given by their numbers in the listing; says in the log what lacks.

    The images of another data set that trains come after them.
    """
    train, select, score = (np.flatnonzero(part[images]) for part in (split.train, split.select, split.score))
    if further is not None:
        train = len(images) + np.arange(len(further.activations))
    parts = ImageParts(train, select, score)
    log.info("%d images train, %d select, %d score", len(parts.train), len(parts.select), len(parts.score))
    for note in split.notes():
        log.warning("%s", note)
    return parts


def _split_columns(request: AnalyzeRequest, split: ImageSplit | None, parts: ImageParts | None) -> Json:
    if request.division is None or split is None or parts is None:
        return {}
    config = request.division.model_dump(mode="json")
    if request.apart is not None:
        config = stored_score_split(request.apart.split, request.dataset.fingerprint)
    return {
        "split": config | {"by": split.by, "is_halved": split.is_halved},
        "n_train": len(parts.train),
        "n_select": len(parts.select),
        "n_score": len(parts.score),
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


def _put_class_sums(context: StageContext, key: str, results: list[BasisResult]) -> StoredObject:
    sums = results[0].class_sums
    assert sums is not None  # noqa: S101 -- the SAE's own basis comes first and has them
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in sums.to_arrays().items()}
    return put_tensors(context.store, class_sums_key(key), tensors, {})


def _publish(request: AnalyzeRequest, context: StageContext, sae_row: Sae, scores: _Scores) -> int:
    """Write everything in one transaction; returns the analysis' number."""
    with context.transaction() as session:
        again = update(Analysis).where(Analysis.key == request.key).returning(Analysis.id)
        published = session.scalar(
            again.values(activations_sha256=scores.latents.sha256, class_sums_sha256=scores.class_sums.sha256)
        )
        if published is not None:  # its rows are there; only its objects were lost
            return published
        split = scores.split
        if request.apart is not None:
            # Its present name: it may have had another one when the job was entered. A further rename waits until it
            # can see the row that is written here.
            is_kept = {"key_share": True, "read": True}
            name = session.get_one(Dataset, request.dataset.id, with_for_update=is_kept).name
            split = split | {"split": split["split"] | {SCORE_DATASET: name}}
        analysis = Analysis(
            key=request.key,
            sae_id=sae_row.id,
            dataset_id=request.dataset.id,
            job_id=context.job_id,
            config=request.config,
            n_images=len(scores.images),
            **split,
            activations_sha256=scores.latents.sha256,
            class_sums_sha256=scores.class_sums.sha256,
        )
        session.add(analysis)
        session.flush()
        synset_ids = node_ids(session, request.dataset.id, scores.taxonomy)
        for result in scores.results:
            if result.latents is not None:
                rows = latent_rows(analysis.id, result.basis, result.latents, synset_ids, scores.images, scores.paths)
                copy_rows(session, "latent", rows)
                copy_rows(session, "latent_place", latent_place_rows(analysis.id, result, synset_ids))
            copy_rows(session, "latent_edge", latent_edge_rows(analysis.id, result, synset_ids))
            copy_rows(session, "latent_family", latent_family_rows(analysis.id, result))
            absorption = node_absorption_rows(analysis.id, result, synset_ids)
            if absorption is not None:
                copy_rows(session, "node_absorption", absorption)
        copy_rows(session, "layer_replicate", layer_replicate_rows(analysis.id, scores.results))
        shuffles = layer_tree_shuffle_rows(analysis.id, scores.results)
        if shuffles:
            session.execute(insert(LayerTreeShuffle), shuffles)
        for result in scores.results:
            measured = {"fvu": sae_row.fvu, "cosine": sae_row.cosine} if result.basis == "sae" else {}
            session.execute(insert(LayerScore).values(layer_score_row(analysis.id, result, measured)))
        load_node_scores(session, analysis.id, node_score_rows(analysis.id, scores.results, synset_ids))
        return analysis.id
