"""Points that wait to be written, without a database: a training that goes back has one point for a step, the later."""

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from sqlalchemy.dialects import postgresql

from hsae.pipeline.stages.evaluation.curve_rows import CurveRows
from hsae.sae.evaluation.curve import CurvePoint
from hsae.sae.training.trainer import StepReport


class Recorder:
    """A job's context that keeps the statements."""

    job_id = 3

    def __init__(self):
        self.parameters = []

    @contextmanager
    def transaction(self):
        compiled = SimpleNamespace(
            execute=lambda statement: self.parameters.append(statement.compile(dialect=postgresql.dialect()).params)
        )
        yield compiled


def report(step, loss, *, is_point=True):
    def measure():
        return CurvePoint(fvu=None, l0=None, train_fvu=loss / 2, train_l0=3.0, dead_share=0.0, learning_rate=1e-3)

    return StepReport(step, 9, 32, loss, loss, 0.0, 0.0, 0, measure if is_point else None)


def test_a_training_that_went_back_has_the_later_point_of_a_step():
    context: Any = Recorder()
    curve = CurveRows("key", context, [], first_step=1)
    assert list(context.parameters.pop().values()) == ["key", 1]  # what came after the checkpoint is deleted
    for step, loss, is_point in ((2, 1.0, False), (3, 2.0, True), (6, 4.0, True), (3, 8.0, True)):
        curve.take(report(step, loss, is_point=is_point))
    assert curve.latest["step"] == 3
    assert curve.latest["vectors_per_second"] is None
    assert context.parameters == []
    curve.write()
    (written,) = context.parameters
    points = {written[f"step_m{i}"]: (written[f"loss_m{i}"], written[f"train_fvu_m{i}"]) for i in range(2)}
    assert points == {3: (8.0, 4.0), 6: (4.0, 2.0)}
    assert "step_m2" not in written
    curve.write()
    assert len(context.parameters) == 1


def test_every_point_also_goes_to_the_sinks():
    sent: list[dict[str, Any]] = []
    context: Any = Recorder()
    sink: Any = SimpleNamespace(add=sent.append)
    curve = CurveRows("key", context, [sink], first_step=0)
    curve.take(report(1, 2.0))
    curve.take(report(2, 1.0, is_point=False))
    (point,) = sent
    assert (point["sae_key"], point["step"], point["job_id"], point["fvu"]) == ("key", 1, 3, None)
    assert point["vectors_per_second"] > 0
