"""The curve of a training as rows, written a few at a time while it trains."""

import time
from dataclasses import asdict

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from hsae.catalog import Json, SaeCurve
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.evaluation.sinks import CurveSink
from hsae.sae.training.trainer import StepReport

_SECONDS = 5.0
_KEY = ("sae_key", "step")


class CurveRows:
    """The points of one SAE's training.

    A point is a function of the training's state, so an attempt that goes on from a checkpoint writes the same rows
    again but for the speed. What was measured before a checkpoint is in the catalog before the checkpoint is.
    """

    def __init__(self, key: str, context: StageContext, sinks: list[CurveSink], *, first_step: int) -> None:
        """Delete the points after the step with which this attempt begins: another attempt measured them.

        Args:
            key: key of the SAE.
            context: the job's.
            sinks: where else the points go.
            first_step: steps that the checkpoint has done; 0: from the start.
        """
        self._key = key
        self._context = context
        self._sinks = sinks
        self._unwritten: dict[int, Json] = {}  # by step: a training that went back has a later point for one
        self._written_at = self._measured_at = time.monotonic()
        self._step = first_step
        self.latest: Json | None = None
        """The last point, as its row has it."""
        with context.transaction() as session:
            stale = SaeCurve.sae_key == key, SaeCurve.step > first_step
            session.execute(delete(SaeCurve).where(*stale))

    def take(self, report: StepReport) -> None:
        """Measure the SAE where a point is due."""
        if report.measure is None:
            return
        elapsed = time.monotonic() - self._measured_at  # without the time that measuring takes
        n_vectors = (report.step - self._step) * report.batch_size  # below 0 where the training went back
        self.latest = {
            "sae_key": self._key,
            "step": report.step,
            "job_id": self._context.job_id,
            "loss": report.loss,
            "reconstruction_loss": report.reconstruction_loss,
            "sparsity_loss": report.sparsity_loss,
            "auxiliary_loss": report.auxiliary_loss,
            **asdict(report.measure()),
            "vectors_per_second": n_vectors / elapsed if elapsed > 0 and n_vectors > 0 else None,
        }
        self._unwritten[report.step] = self.latest
        for sink in self._sinks:
            sink.add(self.latest)
        self._step, self._measured_at = report.step, time.monotonic()
        if self._measured_at - self._written_at >= _SECONDS:
            self.write()

    def write(self) -> None:
        """Write the points that are not in the catalog yet."""
        if self._unwritten:
            with self._context.transaction() as session:
                self.add_to(session)
        self._written_at = time.monotonic()

    def add_to(self, session: Session) -> None:
        """Write them in a transaction of the caller's."""
        if self._unwritten:
            points = list(self._unwritten.values())
            statement = insert(SaeCurve).values(points)
            new = {name: statement.excluded[name] for name in points[0] if name not in _KEY}
            session.execute(statement.on_conflict_do_update(index_elements=list(_KEY), set_=new))
        self._unwritten = {}
