"""The row and the weights of an SAE, of one that was trained here and of one that was imported."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from hsae.catalog import Json, Sae
from hsae.pipeline.kinds.imports.import_sae import ImportRequest
from hsae.pipeline.kinds.train import TrainRequest
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.evaluation.figures import further_figures
from hsae.sae.model import SparseAutoencoder
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import weights_key
from hsae.store.tensors import put_tensors

_FIGURES = (
    "fvu", "cosine", "l0", "holdout_dead_share", "train_fvu", "train_cosine", "train_l0", "train_dead_share",
    "dead_share",
)  # fmt: skip
_SUMMARY = ("fvu", "cosine", "l0", "dead_share", "n_steps")


def published_summary(key: str, context: StageContext) -> Json | None:
    """The summary of an SAE that is published already; None: it is not, or its weights were lost since."""
    with context.reading() as session:
        sae = session.execute(select(Sae).where(Sae.key == key)).scalar_one_or_none()
    if sae is None:
        return None
    try:
        context.store.get(weights_key(key, sae.weights_sha256), sha256=sae.weights_sha256)
    except (ObjectMissingError, ObjectCorruptError):
        return None  # the same weights are made again
    return {name: getattr(sae, name) for name in _SUMMARY}


def store_sae(
    request: TrainRequest | ImportRequest,
    sae: SparseAutoencoder,
    metrics: Json,
    activation_set_id: int,
    context: StageContext,
) -> dict[str, Any]:
    """Store the weights; returns the row's values, which `publish_sae` takes.

    Args:
        request: what was asked for.
        sae: on the CPU.
        metrics: what was measured, with `n_steps`, `evaluation` and `classes` (see `further_figures`).
        activation_set_id: the set that it was measured on.
        context: the job's.
    """
    weights = put_tensors(
        context.store,
        weights_key(request.key),
        sae.to_tensors(),
        {"config": request.sae.model_dump_json(), "activations": request.activation_key},
    )
    return {
        "activation_set_id": activation_set_id,
        "job_id": context.job_id,
        "kind": request.sae.kind,
        "config": request.sae.model_dump(mode="json"),
        "expansion": request.sae.expansion,
        "n_latents": sae.n_latents,
        "seed": request.sae.seed,
        "n_steps": metrics["n_steps"],
        **{name: metrics[name] for name in _FIGURES},
        **further_figures(metrics),
        "metrics": metrics,
        "weights_sha256": weights.sha256,
    }


def publish_sae(key: str, values: Mapping[str, Any], session: Session) -> Json:
    """Write the row in a transaction of the caller's; returns the summary."""
    statement = insert(Sae).values(key=key, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["key"], set_=dict(values)))
    return {name: values[name] for name in _SUMMARY}
