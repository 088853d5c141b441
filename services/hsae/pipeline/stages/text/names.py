"""Stage names: one analysis and a CLIP-like model -> names of latents in Postgres, their directions in the store."""

import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Int64
from sqlalchemy import delete, select, text

from hsae.catalog import Analysis, Json, LatentName, NameAgreement, NameSet, Sae
from hsae.catalog.queries.conditions import SUREST_FIRST
from hsae.catalog.server.bulk_copy import copy_rows
from hsae.datasets.split import split_images, split_scored_images
from hsae.devices.numerics import same_bits
from hsae.errors import UserError
from hsae.pipeline.inputs.stored import node_ids, read_listing, read_taxonomy
from hsae.pipeline.kinds.text.names import NameRequest
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.latent_activations import LatentActivations, get_latent_activations
from hsae.pipeline.stages.text.directions import Directions, Looking, Strongest, decoder_directions
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.split_config import ScoreSplit
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import directions_key, weights_key
from hsae.store.objects import StoredObject
from hsae.store.tensors import get_tensors, put_tensors
from hsae.taxonomy import InducedTaxonomy
from hsae.text.agreement import Agreement, agreement, agreement_heights, common_heights
from hsae.text.config import WORDNET
from hsae.text.models import find_text_model
from hsae.text.names import Names, WordEmbeddings, nearest_words
from hsae.text.tower import TextTower
from hsae.text.vocabulary import Vocabulary, known_entries, listed_vocabulary, nodes_of, taxonomy_vocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Labelled:
    """Latents that are not dead, those with the surest labels first; of each the node of its label, -1: none."""

    latents: Int64[np.ndarray, "n_latents"]
    labels: Int64[np.ndarray, "n_latents"]

    def first(self, most: int) -> "_Labelled":
        return _Labelled(self.latents[:most], self.labels[:most])


@dataclass(frozen=True, slots=True, eq=False)
class _Named:
    """What a job found, before it is written."""

    given: _Labelled
    vocabulary: Vocabulary
    n_unknown: int
    words: WordEmbeddings
    directions: Directions
    names: Names
    agreement: Agreement
    heights: Int64[np.ndarray, "n_latents"]


def make_names(request: NameRequest, context: StageContext) -> Json:
    """Name the latents, and publish everything in one transaction.

    Raises:
        OutOfDeviceMemoryError: so many images at once do not fit; it says what to change.
        UserError: what the settings ask for cannot be had; one line.
    """
    with context.reading() as session:
        done = session.scalars(select(NameSet).where(NameSet.key == request.key)).one_or_none()
        analysis = session.scalars(select(Analysis).where(Analysis.key == request.analysis_key)).one_or_none()
        sae_row = session.scalars(select(Sae).where(Sae.key == request.sae_key)).one_or_none()
    if done is not None and _is_stored(done, context):  # a former attempt ended between publishing and saying so
        return _summary(done)
    if analysis is None or sae_row is None:
        raise UserError(f"analysis {request.analysis_key} is not there: submit the request again to make it")
    at_once = request.images_at_once
    fewer = f"write `names: {{batch_size: {max(1, at_once // 2)}}}` in a study file, or name by a smaller model"
    with (
        context.device_memory(f"names by {at_once} images at once do not fit: {fewer}"),
        same_bits(context.device),
    ):
        result = _computed(request, context, analysis, sae_row)
    context.check()
    return _publish(request, context, analysis.id, result, _put(request, context, result))


def _computed(request: NameRequest, context: StageContext, analysis: Analysis, sae_row: Sae) -> _Named:
    settings, taxonomy = request.names, read_taxonomy(context.store, request.dataset)
    vocabulary, n_unknown, words = _words(request, context, taxonomy)
    given = _labelled(analysis.id, taxonomy, context)
    if request.method == "direction":
        directions = decoder_directions(_sae(request, context, sae_row), given.latents)
    else:
        given = given.first(settings.latents)
        latents = get_latent_activations(context.store, analysis.key, analysis.activations_sha256)
        images = _scored(request, context, latents)
        strongest = _strongest(latents, images, given.latents, settings.images)
        looking = Looking(request, context)
        if request.method == "effect":
            directions = looking.effects(_sae(request, context, sae_row).to(context.device), strongest)
        else:
            every = np.asarray(latents.images[images], np.int64)
            chosen = np.sort(np.random.default_rng(settings.seed).permutation(every)[: settings.n_mean])
            directions = looking.by_images(strongest, chosen)
    if directions.vectors.shape[1] != words.mean.shape[0]:
        raise UserError(
            f"{settings.by} embeds texts in {words.mean.shape[0]} dimensions and images in"
            f" {directions.vectors.shape[1]}: its towers do not belong together"
        )
    names = nearest_words(directions.vectors, words)
    nodes = nodes_of(vocabulary)
    found = agreement(names.word, given.labels, nodes, taxonomy, n_shuffles=settings.n_shuffles, seed=settings.seed)
    named = np.where(names.word >= 0, nodes[names.word], -1)
    heights = agreement_heights(named, given.labels, common_heights(taxonomy))
    log.info("%d of %d latents have a name by %s", (names.word >= 0).sum(), len(names.word), request.method)
    return _Named(given, vocabulary, n_unknown, words, directions, names, found, heights)


def _words(
    request: NameRequest, context: StageContext, taxonomy: InducedTaxonomy
) -> tuple[Vocabulary, int, WordEmbeddings]:
    """The entries that the model knows, how many it does not know, and their embeddings."""
    settings, cache = request.names, context.settings.model_cache
    model = find_text_model(settings.by, revision=settings.revision, tokenizer=settings.tokenizer, cache_dir=cache)
    tower = TextTower.load(model, context.device, cache)
    is_wordnet = settings.vocabulary == WORDNET
    every = taxonomy_vocabulary(taxonomy) if is_wordnet else listed_vocabulary(settings.words, taxonomy)
    known = known_entries(every, tower.knows, settings.by)
    context.check()
    return known, len(every) - len(known), WordEmbeddings.of(known, settings.templates, tower)


def _labelled(analysis_id: int, taxonomy: InducedTaxonomy, context: StageContext) -> _Labelled:
    query = f"""
        SELECT l.latent, y.wnid FROM latent l LEFT JOIN synset y ON y.id = l.label_synset_id AND l.label_f1 > 0
        WHERE l.analysis_id = :analysis AND l.basis = 'sae' AND NOT l.is_dead
        ORDER BY y.id IS NULL, {SUREST_FIRST}
    """  # noqa: S608 -- names of columns, ours
    with context.reading() as session:
        rows = session.execute(text(query), {"analysis": analysis_id}).all()
    node_of = {synset.id: node for node, synset in enumerate(taxonomy.synsets)}
    return _Labelled(
        np.array([row.latent for row in rows], np.int64),
        np.array([-1 if row.wnid is None else node_of[row.wnid] for row in rows], np.int64),
    )


def _sae(request: NameRequest, context: StageContext, row: Sae) -> SparseAutoencoder:
    tensors, _ = get_tensors(context.store, weights_key(request.sae_key, row.weights_sha256), sha256=row.weights_sha256)
    return SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(row.config)).requires_grad_(False)


def _scored(request: NameRequest, context: StageContext, latents: LatentActivations) -> Bool[np.ndarray, "n_images"]:
    """Which of the analysed images are scored: labels were chosen on others; in-sample all are."""
    split = request.split
    if split is None:
        return np.ones(len(latents.images), np.bool_)
    listing = read_listing(context.store, request.dataset)
    is_scored = split_scored_images(listing, split) if isinstance(split, ScoreSplit) else split_images(listing, split)
    return np.asarray(is_scored.score[latents.images])


def _strongest(
    activations: LatentActivations, images: Bool[np.ndarray, "n_images"], latents: Int64[np.ndarray, "n_latents"],
    most: int,
) -> Strongest:  # fmt: skip
    """The images on which each latent is strongest; of equal ones the first in the listing."""
    rows = np.flatnonzero(images)
    columns = activations.z[rows][:, latents].tocsc()
    numbers = np.asarray(activations.images[rows], np.int64)
    found = []
    for at in range(len(latents)):
        part = slice(columns.indptr[at], columns.indptr[at + 1])
        values, own = columns.data[part], numbers[columns.indices[part]]
        fires = values > 0
        order = np.lexsort((own[fires], -values[fires]))[:most]
        found.append(own[fires][order])
    return Strongest(latents, found)


def _is_stored(row: NameSet, context: StageContext) -> bool:
    try:
        context.store.get(directions_key(row.key, row.directions_sha256), sha256=row.directions_sha256)
    except (ObjectMissingError, ObjectCorruptError):
        return False  # lost since: the same object is made again
    return True


def _put(request: NameRequest, context: StageContext, result: _Named) -> StoredObject:
    named = result.names.word >= 0
    tensors = {
        "latents": torch.from_numpy(result.given.latents[named].astype(np.int32)),
        "directions": result.directions.vectors[torch.from_numpy(named)].float(),
        "mean": result.words.mean.float(),
    }
    return put_tensors(context.store, directions_key(request.key), tensors, {"analysis": request.analysis_key})


def _publish(
    request: NameRequest, context: StageContext, analysis_id: int, result: _Named, stored: StoredObject
) -> Json:
    agreed = result.agreement
    with context.transaction() as session:
        row = session.scalars(select(NameSet).where(NameSet.key == request.key)).one_or_none()
        if row is None:
            row = NameSet(key=request.key, analysis_id=analysis_id, config=request.config)
            session.add(row)
        else:  # its object was lost; what is made again replaces the former rows
            for table in (LatentName, NameAgreement):
                session.execute(delete(table).where(table.name_set_id == row.id))
        row.job_id = context.job_id
        row.text_model, row.text_revision = request.names.by, request.names.revision
        row.method, row.split = request.method, "all" if request.split is None else "score"
        row.n_words, row.n_unknown = len(result.vocabulary), result.n_unknown
        row.n_latents, row.n_labelled = int((result.names.word >= 0).sum()), agreed.n_latents
        row.directions_sha256 = stored.sha256
        session.flush()
        table = _name_rows(result, node_ids(session, request.dataset.id, read_taxonomy(context.store, request.dataset)))
        copy_rows(session, "latent_name", table.append_column("name_set_id", pa.repeat(row.id, len(table))))
        for at, height in enumerate(agreed.heights.tolist()):
            session.add(
                NameAgreement(
                    name_set_id=row.id,
                    height=height,
                    n_latents=agreed.n_latents,
                    n_agree=int(agreed.n_agree[at]),
                    n_agree_shuffled=float(agreed.null_mean[at]),
                    shuffled_low=float(agreed.null_low[at]),
                    shuffled_high=float(agreed.null_high[at]),
                    p=float(agreed.p[at]),
                )
            )
        return _summary(row)


def _name_rows(result: _Named, synset_ids: Int64[np.ndarray, "n_nodes"]) -> pa.Table:
    names, entries = result.names, result.vocabulary
    there = np.flatnonzero(names.word >= 0)
    nodes = nodes_of(entries)[names.word[there]]
    heights = result.heights[there]
    n_images = result.directions.n_images
    return pa.table(
        {
            "latent": result.given.latents[there].astype(np.int32),
            "word": pa.array([entries[word].word for word in names.word[there]], pa.string()),
            "synset_id": pa.array(synset_ids[np.maximum(nodes, 0)], pa.int64(), mask=nodes < 0),
            "score": names.score[there],
            "runner_up": pa.array([entries[word].word for word in names.runner_up[there]], pa.string()),
            "margin": names.margin[there],
            "n_images": pa.nulls(len(there), pa.int32()) if n_images is None else n_images[there].astype(np.int32),
            "agreement_height": pa.array(heights, pa.int32(), mask=heights < 0),
        }
    )


def _summary(row: NameSet) -> Json:
    return {"name_set": row.id, "n_latents": row.n_latents, "n_words": row.n_words, "method": row.method}
