"""Stage train: one activation set -> one SAE, with checkpoints."""

import logging
import time
from dataclasses import asdict

from sqlalchemy import null, select, update
from sqlalchemy.dialects.postgresql import insert

from hsae.catalog import ActivationSet, Dataset, Job, Json, Sae
from hsae.errors import JobCancelledError, LeaseLostError
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.image_split import read_split
from hsae.pipeline.kinds.train import TRAIN, TrainRequest
from hsae.pipeline.stages.activation_reader import WantedImages, open_activation_set, read_training_rows
from hsae.pipeline.stages.context import StageContext
from hsae.sae.training.checkpoint import Checkpoint
from hsae.sae.training.trainer import CheckpointSaving, StepReport
from hsae.sae.training.trainer import train as train_sae
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import checkpoint_key, checkpoints_prefix, weights_key
from hsae.store.tensors import get_tensors, put_tensors

log = logging.getLogger(__name__)
_LOG_SECONDS = 30.0
_FIGURES = (
    "fvu", "cosine", "l0", "holdout_dead_share", "train_fvu", "train_cosine", "train_l0", "train_dead_share",
    "dead_share",
)  # fmt: skip
_SUMMARY = ("fvu", "cosine", "l0", "dead_share", "n_steps")


def train(request: TrainRequest, context: StageContext) -> Json:
    """Train the SAE and publish it.

    Raises:
        UserError: the activations cannot be trained on (NaN, constant, too few rows), or the images cannot be split.
    """
    published = _published(request.key, context)
    if published is not None:  # a former attempt ended between publishing and saying so
        _Checkpoints(request.key, context).delete()
        return published
    row, manifest = open_activation_set(context, request.activation_key)
    rows = read_training_rows(context, manifest, _training_images(row, request, context))
    log.info("training on %d rows of %d dimensions", len(rows.view), manifest.d_model)
    checkpoints = _Checkpoints(request.key, context)
    reports = _Reports(context)
    trained = train_sae(
        request.sae,
        rows,
        device=context.device,
        checkpoint=checkpoints.latest(),
        on_step=reports.take,
        saving=CheckpointSaving(checkpoints.due, checkpoints.save),
        micro_batch=context.micro_batch,
    )
    context.check()
    weights = put_tensors(
        context.store,
        weights_key(request.key),
        trained.sae.to_tensors(),
        {"config": request.sae.model_dump_json(), "activations": request.activation_key},
    )
    metrics = asdict(trained.metrics)
    if metrics["of_kind"].get("reached_target_l0") is False:
        l0 = metrics["train_l0"] if metrics["l0"] is None else metrics["l0"]
        log.warning(
            "L0 is %.3g, more than a tenth from the target %.3g: train for more steps, or choose another target",
            l0,
            metrics["of_kind"]["target_l0"],
        )
    with context.transaction() as session:
        values = {
            "activation_set_id": row.id,
            "job_id": context.job_id,
            "kind": request.sae.kind,
            "config": request.sae.model_dump(mode="json"),
            "expansion": request.sae.expansion,
            "n_latents": trained.sae.n_latents,
            "seed": request.sae.seed,
            "n_steps": trained.metrics.n_steps,
            **{name: metrics[name] for name in _FIGURES},
            "metrics": metrics,
            "weights_sha256": weights.sha256,
        }
        statement = insert(Sae).values(key=request.key, **values)
        session.execute(statement.on_conflict_do_update(index_elements=["key"], set_=values))
        session.execute(update(Job).where(Job.id == context.job_id).values(checkpoint=null()))
    checkpoints.delete()
    return {name: values[name] for name in _SUMMARY}


def _training_images(activations: ActivationSet, request: TrainRequest, context: StageContext) -> WantedImages | None:
    """Which images of the listing are trained on; None: all."""
    if request.split is None:
        return None
    with context.reading() as session:
        dataset = dataset_ref(session.get_one(Dataset, activations.dataset_id))
    wanted = read_split(context.store, dataset, request.split).train
    log.info("%d of %d images train", int(wanted.sum()), len(wanted))
    return wanted


def _published(key: str, context: StageContext) -> Json | None:
    with context.reading() as session:
        sae = session.execute(select(Sae).where(Sae.key == key)).scalar_one_or_none()
    if sae is None:
        return None
    try:
        context.store.get(weights_key(key, sae.weights_sha256), sha256=sae.weights_sha256)
    except (ObjectMissingError, ObjectCorruptError):
        return None  # lost since: the same weights are trained again
    return {name: getattr(sae, name) for name in _SUMMARY}


class _Reports:
    """Progress after every step, and a log line at intervals."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._logged = -_LOG_SECONDS
        self._rate_halvings = 0

    def take(self, report: StepReport) -> None:
        """Report a step; raises if the job must stop."""
        self._context.progress(
            report.step * report.batch_size, report.n_steps * report.batch_size, TRAIN.unit, f"loss {report.loss:.4g}"
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
