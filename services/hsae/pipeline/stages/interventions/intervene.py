"""Stage intervene: analyses and their images -> what edits of latents take away, in Postgres."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from jaxtyping import Float64
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hsae.catalog import Intervention, InterventionSet, Json
from hsae.catalog.server.bulk_copy import copy_rows
from hsae.devices.numerics import same_bits
from hsae.errors import UserError
from hsae.interventions.edits import TokenPlaces
from hsae.interventions.measure import Reader, ScoredBatch, measure
from hsae.interventions.own_classifier import load_classifier
from hsae.interventions.readouts import LabelledRows, LinearReadout, Readout, train_neighbours, train_probe
from hsae.pipeline.inputs.stored import node_ids
from hsae.pipeline.kinds.interventions.intervene import INTERVENE, InterveneRequest
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.interventions.arms import REPLACEMENTS, ArmMaker, arms_of, replacements
from hsae.pipeline.stages.interventions.label_effects import effect_rows, label_edits
from hsae.pipeline.stages.interventions.rows import (
    EditRows,
    Results,
    Row,
    contrast_rows,
    edit_rows,
    readout_rows,
    table_of,
)
from hsae.pipeline.stages.interventions.scene import Scene, read_scene, some_images
from hsae.pipeline.stages.interventions.steerability import steerability_rows
from hsae.pipeline.stages.interventions.streams import Streams
from hsae.pipeline.stages.text.embedding import load_embedding
from hsae.taxonomy import Synset
from hsae.text.models import find_text_model
from hsae.text.tower import TextTower
from hsae.text.zero_shot import ZeroShotReadout, zero_shot_readout

log = logging.getLogger(__name__)


def intervene(request: InterveneRequest, context: StageContext) -> Json:
    """Edit, read, and publish everything in one transaction.

    Raises:
        OutOfDeviceMemoryError: so many images at once do not fit; it says what to change.
        UserError: what the settings ask for cannot be had; one line.
    """
    with context.reading() as session:
        done = session.scalars(select(InterventionSet).where(InterventionSet.key == request.key)).one_or_none()
        if done is not None:  # a former attempt ended between publishing and saying so
            return _summary(session, done)
    at_once = request.images_at_once
    fewer = f"write `intervene: {{batch_size: {max(1, at_once // 2)}}}` in a study file, or choose a smaller expansion"
    with (
        context.device_memory(f"interventions on {at_once} images at once do not fit: {fewer}"),
        same_bits(context.device),
    ):
        row, of_edits, tables = _computed(request, context)
    return _publish(context, row, of_edits, tables)


def _computed(
    request: InterveneRequest, context: StageContext
) -> tuple[InterventionSet, EditRows, dict[str, list[Row]]]:
    """The set's row, those of the edits, and those of every other table."""
    settings = request.intervene
    scene = read_scene(request, context)
    places = TokenPlaces.of(settings.tokens, request.extraction.tokens, request.model)
    streams = Streams(request, context, scene, places)
    trained = _train_readouts(request, context, scene, streams)
    maker_of = partial(ArmMaker, settings, context, scene, streams=streams, places=places)
    arms, maker = arms_of(scene.layers, maker_of, trained.probe)
    alone = label_edits(settings, scene, maker, places)
    steering = maker if settings.steer else None
    del maker  # its latents take memory through all passes, unless they are read afterwards
    planned = [*replacements(scene, places, trained.means), *(arm.planned for arm in arms), *alone.planned]
    log.info("%d edits of %d images, read by %s", len(planned), len(scene.parts.score), ", ".join(settings.readouts))
    reader = Reader(streams.layer, streams.last, streams.rows, trained.readouts, scene.tree)
    measured = measure(_scored(scene, streams, context), planned, reader, check=context.check)
    with context.reading() as session:
        ids = node_ids(session, request.dataset.id, scene.taxonomy)
    results = Results(settings, scene, arms, measured, ids)
    of_edits = edit_rows(results)
    tables = {
        "intervention_readout": readout_rows(results),
        "intervention_distance": of_edits.distances,
        "intervention_contrast": contrast_rows(results, of_edits),
        "latent_effect": effect_rows(
            alone, measured.after[len(REPLACEMENTS) + len(arms) :], measured, scene, settings, ids
        ),
    }
    context.check()
    if steering is not None:
        tables["intervention_steerability"] = steerability_rows(
            settings, context, scene, streams, steering, reader, places
        )
    row = InterventionSet(
        key=request.key,
        analysis_id=scene.own.analysis_id,
        with_analyses=[edited.analysis_id for edited in scene.layers[:-1]] or None,
        job_id=context.job_id,
        config=request.config,
        n_images=len(measured.labels),
        n_train=trained.n_train,
        start="stored" if streams.from_stored else "images",
    )
    return row, of_edits, tables


@dataclass(frozen=True, slots=True, eq=False)
class _Trained:
    """Readouts, and what is known of the images that trained them.

    Attributes:
        readouts: in the order of the settings.
        probe: the probe, if it is one of them or attribution needs it.
        n_train: how many images trained them.
        means: by edited layer the mean of these images' rows that edits act on.
    """

    readouts: tuple[Readout, ...]
    probe: LinearReadout | None
    n_train: int
    means: dict[int, Float64[np.ndarray, "d_model"]]


def _train_readouts(request: InterveneRequest, context: StageContext, scene: Scene, streams: Streams) -> _Trained:
    """Train the readouts on unedited activations."""
    settings, parts, device = request.intervene, scene.parts, context.device
    found: dict[str, Readout] = {}
    if "classifier" in settings.readouts:  # first, as a model may have none
        classes = [scene.taxonomy.synsets[node] for node in scene.taxonomy.classes.tolist()]
        found["classifier"] = load_classifier(request.model, classes, device, context.settings.model_cache)
    if "zero_shot" in settings.readouts:
        classes = [scene.taxonomy.synsets[node] for node in scene.taxonomy.classes.tolist()]
        found["zero_shot"] = _zero_shot(request, context, classes)
    rows = streams.last_rows(parts.train)
    train = LabelledRows(rows.x, scene.labels[rows.images])
    probe = None
    if "probe" in settings.readouts or settings.choose == "attribution":
        # The factor of the logits is fitted to images that did not train, where there are some.
        others = some_images(parts.select, scene.labels, settings.n_train, settings.seed)
        select_ = train
        if not np.array_equal(parts.select, parts.train):
            of_others = streams.last_rows(others)
            select_ = LabelledRows(of_others.x, scene.labels[of_others.images])
        probe = train_probe(train, select_, len(scene.tree.inside), streams.rows, device, context.check)
    if probe is not None and "probe" in settings.readouts:
        found["probe"] = probe
    if "knn" in settings.readouts:
        found["knn"] = train_neighbours(train, settings.n_neighbours, streams.rows, device)
    return _Trained(tuple(found[name] for name in settings.readouts), probe, len(train.labels), rows.means)


def _zero_shot(request: InterveneRequest, context: StageContext, classes: Sequence[Synset]) -> ZeroShotReadout:
    """The backbone's own text tower, where it has one.

    Raises:
        UserError: it has none, or is another model than the one that is named.
    """
    cache, device = context.settings.model_cache, context.device
    name, revision = request.model.name, request.model.revision
    if request.model.random_init is not None:
        raise UserError(f"{name} has random weights and no text tower: leave the readout zero_shot out")
    try:
        tower = TextTower.load(find_text_model(name, revision=revision, cache_dir=cache), device, cache)
    except UserError as error:
        raise UserError(f"the readout zero_shot cannot be had: {error}") from error
    final = load_embedding(name, revision, device, cache)
    return zero_shot_readout(tower, final.embedding_of, classes, device)


def _scored(scene: Scene, streams: Streams, context: StageContext) -> Iterator[ScoredBatch]:
    n_done, n_all = 0, len(scene.parts.score)
    context.progress(0, n_all, INTERVENE.unit)
    for batch in streams.of(scene.parts.score):
        yield ScoredBatch(batch.blocks, batch.stream, scene.labels[batch.images])
        n_done += len(batch.images)
        context.progress(n_done, n_all, INTERVENE.unit)


def _publish(context: StageContext, row: InterventionSet, of_edits: EditRows, tables: dict[str, list[Row]]) -> Json:
    with context.transaction() as session:
        session.add(row)
        session.flush()
        for each in of_edits.interventions:
            session.add(Intervention(intervention_set_id=row.id, **_without_nan(each)))
        session.flush()
        for name, rows in tables.items():
            if rows:
                _copy(session, name, table_of(rows), row.id)
        if of_edits.effects:
            _copy(session, "intervention_effect", pa.concat_tables(of_edits.effects), row.id)
        return _summary(session, row)


def _copy(session: Session, name: str, table: pa.Table, set_id: int) -> None:
    copy_rows(session, name, table.append_column("intervention_set_id", pa.repeat(set_id, len(table))))


def _without_nan(row: Row) -> Row:
    """The row without what is undefined; what a row lacks is NULL."""
    return {
        name: value
        for name, value in row.items()
        if value is not None and not (isinstance(value, float) and np.isnan(value))
    }


def _summary(session: Session, row: InterventionSet) -> Json:
    """What the job's row says of the result."""
    n_edits = session.execute(
        select(func.count(Intervention.number.distinct())).where(Intervention.intervention_set_id == row.id)
    ).scalar_one()
    return {"intervention_set": row.id, "n_edits": n_edits, "n_images": row.n_images}
