"""The activation set in which the monosemanticity score compares images.

By default it is the last layer's class token, one space for all layers. `own` is the analysed layer's activations.
Anything else names an activation set in the catalog, of any model on the same images.
"""

import re
from typing import NamedTuple

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.names import short_model_name
from hsae.backbones.spec import BackboneSpec, Tokens
from hsae.catalog import ActivationSet, Dataset, Job, Model
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.extract import ExtractRequest
from hsae.pipeline.kinds.stage import Asked

LAST = "last"
OWN = "own"


class GivenSet(NamedTuple):
    """An activation set that a user named: its key, a name for people, and the job that makes it."""

    key: str
    title: str
    maker: Job


def last_layer(spec: BackboneSpec, dataset: DatasetRef, extraction: ExtractionConfig) -> ExtractRequest:
    """The extraction of the default embeddings of a study: one row per image of the model's last layer.

    The row is the class token, or the mean of the patches if the model has none. If the study extracts these tokens
    itself, it is the study's own extraction (of augmented views only the plain one is used), so nothing is made twice.
    """
    tokens: Tokens = "cls" if spec.has_class_token else "mean"
    if (extraction.tokens, extraction.hook) != (tokens, RESIDUAL):
        shard_images: int = ExtractionConfig.model_fields["shard_images"].default
        plain = {"n_views": 1, "seed": 0, "shard_images": shard_images, "patches_per_image": 0}
        extraction = extraction.model_copy(update={"tokens": tokens, "hook": RESIDUAL, **plain})
    return ExtractRequest(model=spec, dataset=dataset, layers=(spec.n_layers - 1,), extraction=extraction)


def embedding_key(session: Session, study: Asked) -> str | None:
    """Key of the set in which a study compares the images that it scores.

    None for that of each layer itself, and where the user named a set that is not there.
    """
    embeddings = study.scoring.embeddings
    if embeddings == OWN:
        return None
    if embeddings == LAST:
        last = last_layer(study.model, study.dataset, study.extraction)
        return last.activation_key(*last.layers)
    return session.scalar(select(ActivationSet.key).where(_names(embeddings)))


def require_set(session: Session, given: str) -> None:
    """Refuse embeddings that are neither `last`, `own` nor an activation set of any images.

    Raises:
        UserError: when there is no such set.
    """
    if given not in (LAST, OWN) and session.execute(select(ActivationSet.id).where(_names(given))).first() is None:
        raise _unknown(given)


def find_set(session: Session, given: str, dataset: DatasetRef) -> GivenSet:
    """The activation set with a key or number; the row of its job is locked.

    Raises:
        UserError: there is none, or it is of other images.
    """
    query = (
        select(ActivationSet.key, ActivationSet.layer, ActivationSet.tokens, ActivationSet.job_id, Model.name,
               Dataset.name.label("dataset"), Dataset.fingerprint)
        .join(Model, Model.id == ActivationSet.model_id)
        .join(Dataset, Dataset.id == ActivationSet.dataset_id)
    )  # fmt: skip
    row = session.execute(query.where(_names(given))).one_or_none()
    if row is None:
        raise _unknown(given)
    if row.fingerprint != dataset.fingerprint:
        raise UserError(
            f"embeddings: activation set {given} is of the images of {row.dataset}, not of {dataset.name}:"
            " choose one of the same images"
        )
    maker = session.scalars(select(Job).where(Job.id == row.job_id).with_for_update()).one()
    return GivenSet(row.key, f"{row.tokens} of {short_model_name(row.name)} layer {row.layer}", maker)


def _names(given: str) -> ColumnElement[bool]:
    """The condition that a set has this number or key."""
    is_number = re.fullmatch(r"[0-9]{1,18}", given) is not None
    return ActivationSet.id == int(given) if is_number else ActivationSet.key == given


def _unknown(given: str) -> UserError:
    return UserError(
        f"embeddings: there is no activation set {given}: give {LAST}, {OWN}, or the number or key of a set in the"
        " table activation_set"
    )
