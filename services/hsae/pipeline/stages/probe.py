"""Stage probe: one activation set and the taxonomy -> class information in the layer's raw activations, in Postgres."""

import logging

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int32, Int64
from sqlalchemy import select

from hsae.catalog import ClassProbe, Json
from hsae.catalog.server.bulk_copy import copy_rows
from hsae.datasets.split import split_images
from hsae.hierarchy.probes.class_information import ClassInformation, class_information
from hsae.hierarchy.probes.image_parts import ProbeParts, TrainAndScore, split_by_class, stratified_split
from hsae.pipeline.inputs.labels import listed_labels
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.pipeline.kinds.probe import PROBE, ProbeRequest
from hsae.pipeline.stages.activation_reader import WantedImages, iterate_plain_images, open_activation_set
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.score_rows import class_probe_level_rows, class_probe_values
from hsae.store.activations import ActivationManifest

log = logging.getLogger(__name__)

MAX_IMAGES = 100_000
"""Of larger data sets so many images, the same share of every class: neighbours take time with the square of them."""
SEVERAL_CLASSES = "images of this data set have several classes: the probes are defined for one class per image"


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
    information = None
    n_images = 0
    if isinstance(labels, np.ndarray):
        images, activations = _read_activations(manifest, _chosen(labels, request.probe.seed), context)
        parts = _parts(request, listing, labels, images)
        n_images = len(parts.train) + len(parts.score)
        log.info("probing %d images for their classes, trained on %d others", len(parts.score), len(parts.train))
        information = class_information(
            activations,
            labels[images],
            taxonomy,
            parts,
            request.probe,
            device=context.device,
            check=context.check,
        )
        n_levels = len(information.levels.level)
        context.progress(n_levels, n_levels, PROBE.unit)
    else:
        log.warning("%s", SEVERAL_CLASSES)
    context.check()
    return _publish(request, context, row.id, n_images, information)


def _chosen(labels: Int64[np.ndarray, "n_listed"], seed: int) -> WantedImages:
    """The images of the listing that are probed, about `MAX_IMAGES` at most."""
    if len(labels) <= MAX_IMAGES:
        return np.ones(len(labels), np.bool_)
    y = np.unique(labels, return_inverse=True)[1]
    return stratified_split(y, MAX_IMAGES / len(labels), seed)


def _parts(
    request: ProbeRequest,
    listing: pa.Table,
    labels: Int64[np.ndarray, "n_listed"],
    images: Int32[np.ndarray, "n_images"],
) -> ProbeParts:
    """Which of the images, given by their numbers in the listing, train the probes, and which are scored."""
    if request.split is None:
        return split_by_class(labels[images], request.probe.seed)
    split = split_images(listing, request.split)
    for note in split.notes():
        log.warning("%s", note)
    return TrainAndScore(np.flatnonzero(split.train[images]), np.flatnonzero(split.score[images]))


def _read_activations(
    manifest: ActivationManifest, wanted: WantedImages, context: StageContext
) -> tuple[Int32[np.ndarray, "n_images"], Float32[np.ndarray, "n_images d_model"]]:
    """The wanted images that could be read, and one row of activations for each (patch tokens: their mean)."""
    images, activations = [np.empty(0, np.int32)], [np.empty((0, manifest.d_model), np.float32)]
    for plain in iterate_plain_images(context, manifest):
        index = plain.image_index.numpy()
        is_wanted = wanted[index]
        images.append(index[is_wanted])
        activations.append(plain.means().numpy()[is_wanted])
    return np.concatenate(images), np.concatenate(activations)


def _publish(
    request: ProbeRequest,
    context: StageContext,
    activation_set_id: int,
    n_images: int,
    information: ClassInformation | None,
) -> Json:
    with context.transaction() as session:
        row = ClassProbe(
            key=request.key,
            activation_set_id=activation_set_id,
            dataset_id=request.dataset.id,
            job_id=context.job_id,
            config=request.config,
            classifier="ridge",
            n_images=n_images,
            undefined=SEVERAL_CLASSES if information is None else None,
            **({} if information is None else class_probe_values(information)),
        )
        session.add(row)
        session.flush()
        if information is not None:
            copy_rows(session, "class_probe_level", class_probe_level_rows(row.id, information.levels))
        return _summary(row)


def _summary(row: ClassProbe) -> Json:
    """What the job's row says of the result."""
    summary = {"class_probe": row.id, "n_images": row.n_images}
    if row.undefined is not None:
        return summary | {"undefined": row.undefined}
    return summary | {"probe_accuracy": row.probe_accuracy, "knn_accuracy": row.knn_accuracy}
