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
from hsae.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Stage:
    """One kind of job.

    Attributes:
        request: what the job's row holds.
        run: makes the artifact; returns a short summary.
        prefixes: where the artifact's objects lie in the bucket.
        discard: deletes what an attempt left behind, in a transaction that holds the job's row.
    """

    request: type[BaseModel]
    run: Callable[[Any, StageContext], Json]
    prefixes: Callable[[Any], list[str]]
    discard: Callable[[Any, int, Session, ObjectStore], None]


STAGES = {
    "extract": Stage(ExtractRequest, extract.extract, extract.prefixes, extract.discard),
    "train": Stage(TrainRequest, train.train, train.prefixes, train.discard),
    "analyze": Stage(AnalyzeRequest, analyze.analyze, analyze.prefixes, analyze.discard),
    "compare": Stage(CompareRequest, compare.compare, compare.prefixes, compare.discard),
}

__all__ = ["STAGES", "Stage"]
