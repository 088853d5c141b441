"""Stage probe: one activation set and the taxonomy -> class information in the layer's raw activations, in Postgres."""

import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64
from sqlalchemy import select

from hsae.catalog import ClassProbe, Json
from hsae.catalog.server.bulk_copy import copy_rows
from hsae.datasets.split import ImageSplit, split_images, split_scored_images
from hsae.hierarchy.probes.class_information import ClassInformation, class_information
from hsae.hierarchy.probes.image_parts import (
    TEST_SHARE,
    ProbeParts,
    TrainAndScore,
    split_by_class,
    stratified_split,
)
from hsae.pipeline.inputs.image_split import WantedImages
from hsae.pipeline.inputs.labels import labelled_rows, listed_labels
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.kinds.probe import PROBE, ProbeRequest
from hsae.pipeline.kinds.scored_apart import ScoredApart
from hsae.pipeline.stages.activation_reader import open_activation_set, read_plain_rows
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.score_rows import class_probe_level_rows, class_probe_values
from hsae.store.activations import ActivationManifest
from hsae.taxonomy import InducedTaxonomy

log = logging.getLogger(__name__)

MAX_IMAGES = 100_000
"""Of larger data sets so many images, the same share of every class: neighbours take time with the square of them."""
SEVERAL_CLASSES = "images of this data set have several classes: the probes are defined for one class per image"
SEVERAL_CLASSES_TRAIN = "images that train have several classes: the probes are defined for one class per image"
NO_COMMON_CLASS = "no image that trains has a class of the scored data set: the probes are undefined"


def probe(request: ProbeRequest, context: StageContext) -> Json:
    """Probe the layer and publish everything in one transaction.

    Where images have several classes, no probe is defined: the row says so, all scores are NULL, no level has a row.

    Raises:
        UserError: the activations do not exist, or contain NaN or infinity; or the images cannot be split.
    """
    with context.reading() as session:
        done = session.scalars(select(ClassProbe).where(ClassProbe.key == request.key)).one_or_none()
    if done is not None:  # a former attempt ended between publishing and saying so
        return _summary(done)
    row, manifest = open_activation_set(context, request.activation_key)
    taxonomy = read_taxonomy(context.store, request.dataset)
    listing = read_listing(context.store, request.dataset)
    labels = listed_labels(listing, taxonomy)
    apart = request.apart
    train_listing = listing if apart is None else read_listing(context.store, apart.train_dataset)
    information: ClassInformation | str = SEVERAL_CLASSES
    n_images = 0
    if isinstance(labels, np.ndarray) and "class_ids" in train_listing.column_names:
        information = SEVERAL_CLASSES_TRAIN
    elif isinstance(labels, np.ndarray):
        if apart is None:
            probed = _of_one_dataset(request, listing, labels, manifest, context)
        else:
            training = manifest, train_listing
            probed = _of_two_datasets(apart, request.probe.seed, (listing, labels), training, taxonomy, context)
        information = NO_COMMON_CLASS
        if apart is None or len(probed.parts.train):
            n_images, information = _probe(probed, request, taxonomy, context)
    if isinstance(information, str):
        log.warning("%s", information)
    context.check()
    return _publish(request, context, row.id, n_images, information)


def _probe(
    probed: "_Probed", request: ProbeRequest, taxonomy: InducedTaxonomy, context: StageContext
) -> tuple[int, ClassInformation]:
    """The number of images that train or are scored, and what the probes found."""
    parts = probed.parts
    log.info("probing %d images for their classes, trained on %d others", len(parts.score), len(parts.train))
    n_images, width = probed.activations.shape
    with context.device_memory(f"{n_images} images of {width} numbers do not fit: give its worker more memory"):
        information = class_information(
            probed.activations,
            probed.labels,
            taxonomy,
            parts,
            request.probe,
            device=context.device,
            check=context.check,
        )
    n_levels = len(information.levels.level)
    context.progress(n_levels, n_levels, PROBE.unit)
    return len(parts.train) + len(parts.score), information


@dataclass(frozen=True, slots=True, eq=False)
class _Probed:
    """The images of a probe.

    Attributes:
        activations: a row for each.
        labels: the class of each, a position in the taxonomy.
        parts: which of them train, and which are scored.
    """

    activations: Float32[np.ndarray, "n_images d_model"]
    labels: Int64[np.ndarray, "n_images"]
    parts: ProbeParts


def _of_one_dataset(
    request: ProbeRequest,
    listing: pa.Table,
    labels: Int64[np.ndarray, "n_listed"],
    manifest: ActivationManifest,
    context: StageContext,
) -> _Probed:
    """The images of a data set that trains the probes and is scored."""
    images, activations = read_plain_rows(context, manifest, _chosen(labels, MAX_IMAGES, request.probe.seed))
    if request.split is None:
        return _Probed(activations, labels[images], split_by_class(labels[images], request.probe.seed))
    split = split_images(listing, request.split)
    _log_notes(split)
    parts = TrainAndScore(np.flatnonzero(split.train[images]), np.flatnonzero(split.score[images]))
    return _Probed(activations, labels[images], parts)


def _of_two_datasets(
    apart: ScoredApart,
    seed: int,
    scored: tuple[pa.Table, Int64[np.ndarray, "n_listed"]],
    training: tuple[ActivationManifest, pa.Table],
    taxonomy: InducedTaxonomy,
    context: StageContext,
) -> _Probed:
    """The scored images, then those of another data set that train: of these only classes that the first one has.

    Args:
        apart: the scored activations and their split.
        seed: seed of the choice of images, where there are too many.
        scored: listing and labels of the scored data set.
        training: activations and listing of the data set that trains.
        taxonomy: that of the scored data set.
        context: the job's.
    """
    scored_listing, scored_labels = scored
    manifest, listing = training
    split = split_scored_images(scored_listing, apart.split)
    _log_notes(split)
    _, scored_manifest = open_activation_set(context, apart.activation_key)
    chosen = _within(scored_labels, split.score, int(MAX_IMAGES * TEST_SHARE), seed)
    images, activations = read_plain_rows(context, scored_manifest, chosen)
    n_most = MAX_IMAGES - len(images)
    is_labelled = labelled_rows(listing, taxonomy)
    labels = np.full(len(is_labelled), -1, np.int64)
    labels[is_labelled] = np.asarray(listed_labels(listing.filter(pa.array(is_labelled)), taxonomy), np.int64)
    train_images, train_activations = read_plain_rows(context, manifest, _within(labels, is_labelled, n_most, seed))
    parts = TrainAndScore(len(images) + np.arange(len(train_images)), np.arange(len(images)))
    return _Probed(
        np.concatenate((activations, train_activations)),
        np.concatenate((scored_labels[images], labels[train_images])),
        parts,
    )


def _log_notes(split: ImageSplit) -> None:
    for note in split.notes():
        log.warning("%s", note)


def _chosen(labels: Int64[np.ndarray, "n_listed"], most: int, seed: int) -> WantedImages:
    """So many of the images, about, the same share of every class; all if there are fewer."""
    if len(labels) <= most:
        return np.ones(len(labels), np.bool_)
    y = np.unique(labels, return_inverse=True)[1]
    return stratified_split(y, most / len(labels), seed)


def _within(labels: Int64[np.ndarray, "n_listed"], wanted: WantedImages, most: int, seed: int) -> WantedImages:
    """As `_chosen`, among the wanted images alone."""
    chosen = wanted.copy()
    chosen[wanted] = _chosen(labels[wanted], most, seed)
    return chosen


def _publish(
    request: ProbeRequest,
    context: StageContext,
    activation_set_id: int,
    n_images: int,
    information: ClassInformation | str,
) -> Json:
    """Store the probe; a text in place of its scores says why there are none."""
    with context.transaction() as session:
        row = ClassProbe(
            key=request.key,
            activation_set_id=activation_set_id,
            dataset_id=request.dataset.id,
            job_id=context.job_id,
            config=request.config,
            classifier="ridge",
            n_images=n_images,
            undefined=information if isinstance(information, str) else None,
            **({} if isinstance(information, str) else class_probe_values(information)),
        )
        session.add(row)
        session.flush()
        if not isinstance(information, str):
            copy_rows(session, "class_probe_level", class_probe_level_rows(row.id, information.levels))
        return _summary(row)


def _summary(row: ClassProbe) -> Json:
    """What the job's row says of the result."""
    summary = {"class_probe": row.id, "n_images": row.n_images}
    if row.undefined is not None:
        return summary | {"undefined": row.undefined}
    return summary | {"probe_accuracy": row.probe_accuracy, "knn_accuracy": row.knn_accuracy}
