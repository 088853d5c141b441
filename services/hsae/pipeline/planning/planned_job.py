"""The jobs of a plan, from what is called for to what a plan says of each."""

from dataclasses import dataclass
from typing import Any, Literal

from hsae.catalog import Job
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.sae.config import SaeConfig

JobStatus = Literal["new", "again", "joined", "reused"]
REASON_OF_STATUS = {"new": "submitted", "again": "requeued"}  # of the event of a job that is queued by a submit


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job of a plan: `new`, queued `again` after a failure, `joined` while under way, or `reused` as finished.

    `layers`: what it is about; `sae`: the SAE that it trains or scores, None for an extraction and a comparison.
    """

    id: int
    key: str
    kind: str
    title: str
    status: JobStatus
    state: str
    layers: tuple[int, ...]
    sae: SaeConfig | None


@dataclass(frozen=True, slots=True)
class WantedJob:
    """A job that a plan calls for, whether it exists or not.

    `needs`: keys of the artifacts that must be there first.
    """

    kind: str
    queue: str
    request: StageRequest
    title: str
    needs: tuple[str, ...]
    layers: tuple[int, ...]
    sae: SaeConfig | None = None

    @classmethod
    def of(cls, stage: Stage[Any], asked: Asked) -> "WantedJob":
        """What a stage makes of what a study asks of it."""
        request = stage.ask(asked)
        return cls(stage.kind, stage.queue, request, stage.title(asked), stage.needs(request), asked.layers, asked.sae)


@dataclass(slots=True)
class Step:
    """A job on its way into the plan."""

    job: Job
    status: JobStatus
    wanted: WantedJob
    needs: tuple[Job, ...]

    def planned(self) -> PlannedJob:
        """The step once its job is entered."""
        job, wanted = self.job, self.wanted
        return PlannedJob(job.id, job.key, job.kind, wanted.title, self.status, job.state, wanted.layers, wanted.sae)
