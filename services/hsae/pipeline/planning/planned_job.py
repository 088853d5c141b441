"""What a plan says of each of its jobs."""

from dataclasses import dataclass
from typing import Literal

from hsae.catalog import Job
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


@dataclass(slots=True)
class Step:
    """A job on its way into the plan."""

    job: Job
    status: JobStatus
    title: str
    needs: tuple[Job, ...]
    layers: tuple[int, ...]
    sae: SaeConfig | None

    def planned(self) -> PlannedJob:
        """The step once its job is entered."""
        job = self.job
        return PlannedJob(job.id, job.key, job.kind, self.title, self.status, job.state, self.layers, self.sae)
