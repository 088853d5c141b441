"""The stages: plain functions of (request, context) that make one kind of artifact each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy.orm import Session

from hsae.catalog import Json
from hsae.pipeline.context import StageContext
from hsae.pipeline.requests import AnalyzeRequest, CompareRequest, ExtractRequest, TrainRequest
from hsae.pipeline.stages import analyze, compare, extract, train


@dataclass(frozen=True, slots=True)
class Stage:
    """One kind of job.

    Attributes:
        request: what the job's row holds.
        run: makes the artifact; returns a short summary.
        prefixes: where the artifact's objects lie in the bucket.
        forget: deletes the rows that an ended attempt left behind, in a transaction that holds the job's row; `sweep`
            then deletes the objects that they named.
    """

    request: type[BaseModel]
    run: Callable[[Any, StageContext], Json]
    prefixes: Callable[[Any], list[str]]
    forget: Callable[[Any, int, Session], None]


def _forget_nothing(request: BaseModel, job_id: int, session: Session) -> None:
    """All rows went with the attempt's last transaction."""
    del request, job_id, session


STAGES = {
    "extract": Stage(ExtractRequest, extract.extract, extract.prefixes, extract.forget),
    "train": Stage(TrainRequest, train.train, train.prefixes, train.forget),
    "analyze": Stage(AnalyzeRequest, analyze.analyze, analyze.prefixes, _forget_nothing),
    "compare": Stage(CompareRequest, compare.compare, compare.prefixes, _forget_nothing),
}

__all__ = ["STAGES", "Stage"]
