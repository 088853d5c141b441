"""The jobs of a plan, from the request to the status of each."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from hsae.catalog import Job
from hsae.pipeline.estimate import NOTHING, Estimate
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.sae.config import SaeConfig

JobStatus = Literal["new", "again", "joined", "reused"]
REASON_OF_STATUS = {"new": "submitted", "again": "requeued"}  # of the event of a job that is queued by a submit


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job of a plan.

    Attributes:
        id: its number.
        key: its key.
        kind: its kind.
        title: its title, for people.
        status: `new`, queued `again` after a failure, `joined` while it waits or runs, or `reused` because it has
            finished.
        state: its state in the catalog.
        layers: its layers.
        sae: the SAE that it trains or scores; None where the job is of all SAEs.
        half: of cross-fitting, which half of the images it scores, or leaves to be scored; else empty.
        estimate: what it will take, by its stage; nothing where it has its artifact, or keeps some of an attempt.
    """

    id: int
    key: str
    kind: str
    title: str
    status: JobStatus
    state: str
    layers: tuple[int, ...]
    sae: SaeConfig | None
    half: str = ""
    estimate: Estimate = NOTHING


@dataclass(frozen=True, slots=True)
class WantedJob:
    """A job that a plan needs, whether it exists or not.

    `needs`: keys of the artifacts that must exist first; `half`: as in `PlannedJob`; `estimate`: as the stage has it;
    `is_gone`: what it made was dropped, so that it runs again.
    """

    kind: str
    queue: str
    request: StageRequest
    title: str
    needs: tuple[str, ...]
    layers: tuple[int, ...]
    sae: SaeConfig | None = None
    half: str = ""
    estimate: Estimate = NOTHING
    is_gone: bool = False

    def of_half(self, half: str) -> "WantedJob":
        """The same job with the half of the images, which also stands in its title."""
        return replace(self, title=f"{self.title}, {half}", half=half)

    @classmethod
    def of(cls, stage: Stage[Any], asked: Asked) -> "WantedJob":
        """The job with which a stage answers what a study asks."""
        request = stage.ask(asked)
        return cls(
            stage.kind,
            stage.queue,
            request,
            stage.title(asked),
            stage.needs(request),
            asked.all_layers,
            asked.sae,
            estimate=stage.estimate(asked),
        )

    def queue_at(self, gpu_minutes: float) -> str:
        """The queue of the job; that of GPUs if it would take more minutes than these on processor cores."""
        return "gpu" if self.estimate.cpu_minutes > gpu_minutes else self.queue


@dataclass(slots=True)
class Step:
    """A job while the plan is made."""

    job: Job
    status: JobStatus
    wanted: WantedJob
    needs: tuple[Job, ...]

    def planned(self) -> PlannedJob:
        """The job as the plan lists it, after it was entered."""
        job, wanted = self.job, self.wanted
        estimate = wanted.estimate if self.status == "new" or wanted.is_gone else NOTHING
        return PlannedJob(
            job.id,
            job.key,
            job.kind,
            wanted.title,
            self.status,
            job.state,
            wanted.layers,
            wanted.sae,
            wanted.half,
            estimate,
        )
