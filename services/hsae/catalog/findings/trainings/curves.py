"""The curves of trainings."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row
from hsae.catalog.tables.artifacts import SaeCurve

CURVE_COLUMNS = tuple(column.key for column in SaeCurve.__table__.columns if column.key not in {"sae_key", "job_id"})


def curve_of(session: Session, sae_key: str) -> list[Row]:
    """The points of one training by step; none for an SAE of an earlier version or of another program."""
    chosen = select(SaeCurve).where(SaeCurve.sae_key == sae_key).order_by(SaeCurve.step)
    return [{name: getattr(point, name) for name in CURVE_COLUMNS} for point in session.scalars(chosen)]
