"""Stage train: one activation set -> one SAE, with checkpoints."""

import logging
import time
from dataclasses import asdict

import numpy as np
from jaxtyping import Int64
from sqlalchemy import null, update

from hsae.catalog import ActivationSet, Dataset, Job, Json
from hsae.errors import JobCancelledError, LeaseLostError
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.image_split import WantedImages, split_listing
from hsae.pipeline.inputs.stored import read_listing
from hsae.pipeline.inputs.streamed_set import streamed_rows
from hsae.pipeline.kinds.train import TRAIN, TrainRequest
from hsae.pipeline.stages.activation_reader import open_activation_set, read_training_rows
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.evaluation.class_probe import ProbedRows, image_classes
from hsae.pipeline.stages.evaluation.curve_rows import CurveRows
from hsae.pipeline.stages.evaluation.figures import class_figures
from hsae.pipeline.stages.evaluation.sae_rows import publish_sae, published_summary, store_sae
from hsae.pipeline.stages.evaluation.sinks import open_sinks
from hsae.sae.rows.source import TrainingRows
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.training.checkpoint import Checkpoint
from hsae.sae.training.trainer import CheckpointSaving, StepReport
from hsae.sae.training.trainer import train as train_sae
from hsae.store.activations import ActivationManifest
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import checkpoint_key, checkpoints_prefix
from hsae.store.tensors import get_tensors, put_tensors

log = logging.getLogger(__name__)
_LOG_SECONDS = 30.0


def train(request: TrainRequest, context: StageContext) -> Json:
    """Train the SAE and publish it.

    Raises:
        UserError: the activations cannot be trained on (NaN, constant, too few rows), or the images cannot be split.
    """
    published = published_summary(request.key, context)
    if published is not None:  # a former attempt ended between publishing and saying so
        _Checkpoints(request.key, context).delete()
        return published
    row, manifest = open_activation_set(context, request.activation_key)
    checkpoints = _Checkpoints(request.key, context)
    checkpoint = checkpoints.latest()
    first_step = 0 if checkpoint is None else int(checkpoint.metadata["step"])
    config = request.sae.model_dump(mode="json")
    with open_sinks(context.settings, request.key, context.title, config, first_step=first_step) as sinks:
        wanted, classes = _images(row, request, context)
        rows = _rows(request, context, manifest, wanted)
        curve = CurveRows(request.key, context, sinks, first_step=first_step)
        reports = _Reports(context, curve)

        def save(state: Checkpoint) -> None:
            curve.write()
            checkpoints.save(state)

        saving = CheckpointSaving(checkpoints.due, save, waiting=context.check)
        with context.device_memory(f"the training does not fit: {_smaller(request)}"):
            trained = train_sae(
                request.sae,
                rows,
                device=context.device,
                checkpoint=checkpoint,
                on_step=reports.take,
                saving=saving,
                spare_memory=context.spares_memory,
            )
            context.check()
            of_classes = class_figures(trained.sae, ProbedRows.of(rows, request.sae), classes, context.device)
    metrics = asdict(trained.metrics) | {"classes": of_classes}
    if metrics["of_kind"].get("reached_target_l0") is False:
        l0 = metrics["train_l0"] if metrics["l0"] is None else metrics["l0"]
        log.warning(
            "L0 is %.3g, more than a tenth from the target %.3g: train for more steps, or choose another target",
            l0,
            metrics["of_kind"]["target_l0"],
        )
    values = store_sae(request, trained.sae.cpu(), metrics, row.id, context)
    with context.transaction() as session:
        summary = publish_sae(request.key, values, session)
        session.execute(update(Job).where(Job.id == context.job_id).values(checkpoint=null()))
        curve.add_to(session)
    checkpoints.delete()
    return summary


def _smaller(request: TrainRequest) -> str:
    """How to train with less memory."""
    sae = request.sae
    now = "all rows of a batch" if sae.part_rows is None else f"{sae.part_rows} rows"
    return f"set part_rows of the SAE ({now} at once now), which is part of the key, or take a smaller expansion"


def _rows(
    request: TrainRequest, context: StageContext, manifest: ActivationManifest, images: WantedImages | None
) -> TrainingRows | StreamedRows:
    """The rows of these images (None: of all), in memory or streamed."""
    if request.sae.rows == "stream":
        streamed = streamed_rows(context, manifest, images, seat=context.seat)
        n_rows = len(streamed.layout.images) * streamed.layout.rows_per_image
        log.info("streaming %d rows of %d dimensions", n_rows, manifest.d_model)
        return streamed
    rows = read_training_rows(context, manifest, images)
    log.info("training on %d rows of %d dimensions", len(rows.view), manifest.d_model)
    return rows


def _images(
    activations: ActivationSet, request: TrainRequest, context: StageContext
) -> tuple[WantedImages | None, Int64[np.ndarray, "n_listed"] | None]:
    """Which images of the listing are trained on (None: all), and their classes (None: some have several)."""
    with context.reading() as session:
        dataset = dataset_ref(session.get_one(Dataset, activations.dataset_id))
    listing = read_listing(context.store, dataset)
    wanted = None
    if request.split is not None:
        wanted = split_listing(listing, request.split).train
        log.info("%d of %d images train", int(wanted.sum()), len(wanted))
    return wanted, image_classes(listing)


class _Reports:
    """Progress after every step, points of the curve, and a log line at intervals."""

    def __init__(self, context: StageContext, curve: CurveRows) -> None:
        self._context = context
        self._curve = curve
        self._logged = -_LOG_SECONDS
        self._rate_halvings = 0

    def take(self, report: StepReport) -> None:
        """Report a step; raises if the job must stop."""
        self._curve.take(report)
        self._context.progress(
            report.step * report.batch_size, report.n_steps * report.batch_size, TRAIN.unit, self._note(report)
        )
        if report.rate_halvings > self._rate_halvings:
            self._rate_halvings = report.rate_halvings
            log.warning(
                "a number was no longer finite: back at step %d, with half the learning rate (%d of 2 times)",
                report.step - 1,
                report.rate_halvings,
            )
        if time.monotonic() - self._logged >= _LOG_SECONDS or report.step == report.n_steps:
            self._logged = time.monotonic()
            log.info(
                "step %d of %d: loss %.4g (reconstruction %.4g, sparsity %.4g, auxiliary %.4g)",
                report.step,
                report.n_steps,
                report.loss,
                report.reconstruction_loss,
                report.sparsity_loss,
                report.auxiliary_loss,
            )

    def _note(self, report: StepReport) -> str:
        """The loss, and the held-out figures of the last point."""
        note, point = f"loss {report.loss:.4g}", self._curve.latest or {}
        if point.get("fvu") is not None:
            note += f", FVU {point['fvu']:.3f}"
        return note if point.get("l0") is None else f"{note}, L0 {point['l0']:.1f}"


class _Checkpoints:
    """The latest checkpoint of a training, which the job's row names, so that a later attempt continues from it."""

    def __init__(self, key: str, context: StageContext) -> None:
        self._key = key
        self._context = context
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether to save the next one: at intervals, and before the worker stops."""
        return self._context.stopping or time.monotonic() - self._last >= self._context.settings.checkpoint_seconds

    def latest(self) -> Checkpoint | None:
        """The checkpoint that the job's row names, if any."""
        saved = self._context.checkpoint
        if saved is None:
            return None
        try:
            tensors, metadata = get_tensors(self._context.store, saved["object_key"], sha256=saved["sha256"])
        except (ObjectMissingError, ObjectCorruptError) as loss:
            log.warning("training from the start: %s", loss)
            return None
        log.info("going on from checkpoint %s", saved["object_key"])
        return Checkpoint(tensors, metadata)

    def save(self, checkpoint: Checkpoint) -> None:
        """Store the checkpoint, write its name into the job's row, then delete the one before."""
        previous = self._context.checkpoint
        stored = put_tensors(
            self._context.store,
            checkpoint_key(self._key, self._context.fence, time.time_ns()),
            checkpoint.tensors,
            checkpoint.metadata,
        )
        try:
            self._context.save_checkpoint({"object_key": stored.key, "sha256": stored.sha256})
        except (LeaseLostError, JobCancelledError):
            self._context.store.delete(stored.key)  # no row will ever name it
            raise
        if previous is not None:
            self._context.store.delete(previous["object_key"])
        self._last = time.monotonic()
        log.info("checkpoint stored at step %s", checkpoint.metadata["step"])
        self._context.check()

    def delete(self) -> None:
        """Delete all of them; the SAE is published."""
        self._context.store.delete_prefix(checkpoints_prefix(self._key))
