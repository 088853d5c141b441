"""What a job of each kind may leave behind, and how to take it back; needs none of the code that does the job."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy import delete, null, select, update
from sqlalchemy.orm import Session

from hsae.catalog import ActivationSet, ActivationShard, Job
from hsae.pipeline.planning.requests import AnalyzeRequest, CompareRequest, ExtractRequest, TrainRequest
from hsae.store.keys import ACTIVATIONS, ANALYSES, SAES, artifact_prefix


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What one kind of job may leave behind.

    Attributes:
        request: what the job's row holds.
        prefixes: where the artifact's objects lie in the bucket.
        forget: deletes the rows that an ended attempt left behind, in a transaction that holds the job's row; `sweep`
            then deletes the objects that they named.
    """

    request: type[BaseModel]
    prefixes: Callable[[Any], list[str]]
    forget: Callable[[Any, int, Session], None]


def _extract_prefixes(request: ExtractRequest) -> list[str]:
    return [artifact_prefix(ACTIVATIONS, request.activation_key(layer)) for layer in request.layers]


def _forget_shards(request: ExtractRequest, job_id: int, session: Session) -> None:
    """Forget the shards of a failed extraction, so that nothing half-made stays."""
    unpublished = session.scalars(
        select(ActivationSet.id)
        .where(
            ActivationSet.key.in_([request.activation_key(layer) for layer in request.layers]),
            ActivationSet.manifest_sha256.is_(None),
            ActivationSet.job_id == job_id,  # a job with other layers may make some of them by now
        )
        .with_for_update()  # ... and none may begin to, until these rows are gone
    ).all()
    session.execute(delete(ActivationShard).where(ActivationShard.activation_set_id.in_(unpublished)))


def _train_prefixes(request: TrainRequest) -> list[str]:
    return [artifact_prefix(SAES, request.key)]


def _forget_checkpoint(request: TrainRequest, job_id: int, session: Session) -> None:
    """Forget the checkpoint of a failed training."""
    del request
    session.execute(update(Job).where(Job.id == job_id).values(checkpoint=null()))


def _analyze_prefixes(request: AnalyzeRequest) -> list[str]:
    return [artifact_prefix(ANALYSES, request.key)]


def _no_prefixes(request: CompareRequest) -> list[str]:
    """A comparison is rows alone."""
    del request
    return []


def _forget_nothing(request: BaseModel, job_id: int, session: Session) -> None:
    """All rows went with the attempt's last transaction."""
    del request, job_id, session


LEFTOVERS = {
    "extract": Leftovers(ExtractRequest, _extract_prefixes, _forget_shards),
    "train": Leftovers(TrainRequest, _train_prefixes, _forget_checkpoint),
    "analyze": Leftovers(AnalyzeRequest, _analyze_prefixes, _forget_nothing),
    "compare": Leftovers(CompareRequest, _no_prefixes, _forget_nothing),
}
