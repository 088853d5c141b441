"""Stage import: an SAE that another program trained is measured on activations of ours, and published like our own."""

import logging
from dataclasses import asdict
from typing import Any

import torch
from sqlalchemy import select

from hsae.catalog import Dataset, ImportedSae, Json
from hsae.errors import UserError
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.image_split import split_listing
from hsae.pipeline.inputs.stored import read_listing
from hsae.pipeline.kinds.imports.import_sae import IMPORT, ImportRequest
from hsae.pipeline.stages.activation_reader import open_activation_set, read_training_rows
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.evaluation.class_probe import ProbedRows, image_classes
from hsae.pipeline.stages.evaluation.figures import class_figures
from hsae.pipeline.stages.evaluation.sae_rows import publish_sae, published_summary, store_sae
from hsae.sae.config import SaeConfig, check_config
from hsae.sae.evaluation.evaluation import evaluate
from hsae.sae.evaluation.firing import Firing
from hsae.sae.evaluation.metrics import Reconstruction, dead_share, measure_reconstruction
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows, check_finite
from hsae.sae.rows.split import split_rows
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import imported_key
from hsae.store.tensors import get_tensors

log = logging.getLogger(__name__)
_MEASURED = ("fvu", "cosine", "l0", "l1")


def import_sae(request: ImportRequest, context: StageContext) -> Json:
    """Measure the SAE and publish it.

    Raises:
        UserError: the SAE is not registered any more, the activations are of another width or hold NaN, or the images
            cannot be split.
    """
    published = published_summary(request.key, context)
    if published is not None:  # a former attempt ended between publishing and saying so
        return published
    row, manifest = open_activation_set(context, request.activation_key)
    check_config(request.sae, manifest.d_model)
    sae = _registered(request.sae, context).requires_grad_(False)
    with context.reading() as session:
        dataset = dataset_ref(session.get_one(Dataset, row.dataset_id))
    listing = read_listing(context.store, dataset)
    rows = read_training_rows(context, manifest, split_listing(listing, request.split).train if request.split else None)
    log.info("measuring on %d rows of %d dimensions", len(rows.view), manifest.d_model)
    with context.device_memory(f"an SAE of {sae.n_latents} latents does not fit: give its worker more memory"):
        metrics = _measured(sae, rows, request.sae, context)
        probed = ProbedRows.of(rows, request.sae)
        metrics["classes"] = class_figures(sae, probed, image_classes(listing), context.device)
    context.check()
    values = store_sae(request, sae.cpu(), metrics, row.id, context)
    with context.transaction() as session:
        return publish_sae(request.key, values, session)


def _registered(config: SaeConfig, context: StageContext) -> SparseAutoencoder:
    """The SAE as it was registered.

    Raises:
        UserError: it is not there any more, or its bytes are damaged: only whoever has its files can bring it back.
    """
    origin = config.imported
    assert origin is not None  # noqa: S101
    with context.reading() as session:
        found = session.scalars(select(ImportedSae).where(ImportedSae.key == origin.key)).one_or_none()
    again = f"import its files again with `hsae-admin sae import PATH --name {origin.name}`"
    if found is None:
        raise UserError(f"the imported SAE {origin.name} is not registered: {again}")
    try:
        tensors, _ = get_tensors(
            context.store, imported_key(found.key, found.weights_sha256), sha256=found.weights_sha256
        )
    except (ObjectMissingError, ObjectCorruptError) as loss:
        raise UserError(f"the weights of the imported SAE {origin.name} are lost ({loss}): {again}") from loss
    return SparseAutoencoder.from_tensors(tensors, config)


def _measured(sae: SparseAutoencoder, rows: TrainingRows, config: SaeConfig, context: StageContext) -> dict[str, Any]:
    """The figures that a training ends with, on the rows on which one of ours would be measured."""
    check_finite(rows)
    split = split_rows(rows, holdout_share=config.holdout_share, seed=config.seed)
    sae = sae.to(context.device)
    parts = {"": split.holdout, "train_": split.measured_train}
    total = sum(positions.shape[0] for positions in parts.values()) + split.plain.shape[0]
    metrics: dict[str, Any] = {}
    firing: dict[str, Firing] = {}
    done = 0
    for prefix, positions in parts.items():
        context.progress(done, total, IMPORT.unit)
        found = measure_reconstruction(sae, rows, positions, context.device) if positions.shape[0] else None
        metrics |= {f"{prefix}{name}": _of(found, name) for name in _MEASURED}
        metrics[f"{prefix or 'holdout_'}dead_share"] = _of(found, "dead_share")
        if found is not None:
            firing[prefix] = found.firing
        done += positions.shape[0]
    context.progress(done, total, IMPORT.unit)
    metrics["dead_share"] = dead_share(sae, rows, split, context.device)
    context.progress(total, total, IMPORT.unit)
    with torch.no_grad():
        l0 = metrics["train_l0"] if metrics["l0"] is None else metrics["l0"]
        of_kind = dict(config.variant.own_metrics(sae, l0))
    return metrics | {
        "n_train_rows": 0,
        "n_train_rows_measured": split.measured_train.shape[0],
        "n_holdout_rows": split.holdout.shape[0],
        "n_steps": 0,
        "of_kind": of_kind,
        "evaluation": asdict(
            evaluate(sae, rows, split, context.device, holdout=firing.get(""), train=firing["train_"])
        ),
    }


def _of(found: Reconstruction | None, name: str) -> float | None:
    return None if found is None else getattr(found, name)
