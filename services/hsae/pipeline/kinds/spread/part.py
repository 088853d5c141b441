"""Kind part: some shards of an extraction, so that many workers share it; the extraction itself then only publishes."""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsae.catalog import UNSUCCESSFUL_STATES, Job
from hsae.pipeline.kinds.artifact import artifact_key
from hsae.pipeline.kinds.extract import ACTIVATIONS_FORMAT, EXTRACT, ExtractRequest
from hsae.pipeline.kinds.spread.filling import filling
from hsae.pipeline.kinds.stage import Asked, Stage


class PartRequest(ExtractRequest):
    """An extraction's request, and which of its shards: from `first_shard` up to but not with `end_shard`."""

    first_shard: int
    end_shard: int

    @property
    def key(self) -> str:
        """Key of the job. It makes no artifact of its own."""
        shards = {"of": super().key, "shards": [self.first_shard, self.end_shard]}
        return artifact_key("part", ACTIVATIONS_FORMAT, shards)

    @classmethod
    def of(cls, extraction: ExtractRequest, first_shard: int, end_shard: int) -> "PartRequest":
        """A part of an extraction."""
        fields = {name: getattr(extraction, name) for name in ExtractRequest.model_fields}
        return cls(**fields, first_shard=first_shard, end_shard=end_shard)


class PartStage(Stage[PartRequest]):
    """Stores shards of the activation sets that an extraction publishes. A study's plan divides them: `parts_of`."""

    kind = "part"
    request = PartRequest
    queue = "gpu"
    unit = "images"
    code = "hsae.pipeline.stages.extract:extract_part"
    fills = EXTRACT.kind

    def ask(self, asked: Asked) -> PartRequest:
        """All shards in one part."""
        return PartRequest.of(EXTRACT.ask(asked), 0, n_shards(asked))

    def title(self, asked: Asked) -> str:
        """The extraction's."""
        return EXTRACT.title(asked)


PART = PartStage()


class WantedPart(NamedTuple):
    """A part that a plan needs, and its job's title."""

    request: PartRequest
    title: str


def n_shards(asked: Asked) -> int:
    """Shards of each layer."""
    return -(-asked.n_images // asked.extraction.shard_images)


def parts_of(asked: Asked, part_images: int) -> Iterator[WantedPart]:
    """The parts of an extraction; none where it would be only one.

    Args:
        asked: what is asked of the extraction.
        part_images: about how many images a part has: whole shards, one at least; 0: an extraction has no parts.
    """
    shards, size = n_shards(asked), max(1, part_images // asked.extraction.shard_images)
    if part_images == 0 or shards <= size:
        return
    extraction = EXTRACT.ask(asked)
    starts = range(0, shards, size)
    for number, first in enumerate(starts, 1):
        title = f"{EXTRACT.title(asked)}, part {number} of {len(starts)}"
        yield WantedPart(PartRequest.of(extraction, first, min(first + size, shards)), title)


def parts_of_job(session: Session, job_id: int) -> tuple[WantedPart, ...]:
    """The parts that an extraction was divided into when it was planned, but for those that it did without."""
    of_job = select(Job.request, Job.title).where(Job.id.in_(filling([job_id])))
    rows = session.execute(of_job.where(Job.state.not_in(UNSUCCESSFUL_STATES)).order_by(Job.id))
    return tuple(WantedPart(PartRequest.model_validate(request), title) for request, title in rows)
