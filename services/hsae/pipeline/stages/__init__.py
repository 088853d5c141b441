"""The stages: plain functions of (request, context) that make one kind of artifact each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from hsae.catalog import Json
from hsae.pipeline.planning.requests import AnalyzeRequest, CompareRequest, ExtractRequest, TrainRequest
from hsae.pipeline.stages import analyze, compare, extract, train
from hsae.pipeline.stages.context import StageContext


@dataclass(frozen=True, slots=True)
class Stage:
    """One kind of job.

    Attributes:
        request: what the job's row holds.
        run: makes the artifact; returns a short summary.
    """

    request: type[BaseModel]
    run: Callable[[Any, StageContext], Json]


STAGES = {
    "extract": Stage(ExtractRequest, extract.extract),
    "train": Stage(TrainRequest, train.train),
    "analyze": Stage(AnalyzeRequest, analyze.analyze),
    "compare": Stage(CompareRequest, compare.compare),
}

__all__ = ["STAGES", "Stage"]
