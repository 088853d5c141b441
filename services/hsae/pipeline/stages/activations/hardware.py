"""All rows of an activation set are computed by one kind of processor: others differ in last digits."""

from collections.abc import Collection

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hsae.catalog import ActivationSet
from hsae.devices.hardware import hardware_of
from hsae.errors import ServiceError
from hsae.pipeline.stages.context import StageContext


class OtherHardwareError(ServiceError):
    """Another kind of processor has begun the activations; a worker that has one may go on."""


def check_hardware(context: StageContext, set_ids: Collection[int]) -> None:
    """Refuse to compute rows of sets that another kind of processor has begun.

    Raises:
        OtherHardwareError: one has; the job waits for a worker that has it.
    """
    with context.reading() as session:
        _refuse_other(context, session, set_ids)


def claim_hardware(context: StageContext, set_ids: Collection[int]) -> None:
    """Note this worker's kind of processor in sets that have none yet. Raises as `check_hardware`."""
    own = hardware_of(context.device)
    with context.transaction() as session:
        unclaimed = select(ActivationSet.id).where(ActivationSet.id.in_(set_ids), ActivationSet.hardware.is_(None))
        # In one order, so that parts that begin at the same instant wait for each other and not in a circle.
        ids = session.scalars(unclaimed.order_by(ActivationSet.id).with_for_update()).all()
        if ids:
            session.execute(update(ActivationSet).where(ActivationSet.id.in_(ids)).values(hardware=own))
        _refuse_other(context, session, set_ids)


def _refuse_other(context: StageContext, session: Session, set_ids: Collection[int]) -> None:
    own = hardware_of(context.device)
    is_other = ActivationSet.id.in_(set_ids) & (ActivationSet.hardware != own)
    begun = session.scalars(select(ActivationSet.hardware).where(is_other).order_by(ActivationSet.id)).first()
    if begun is not None:
        raise OtherHardwareError(
            f"{begun} has begun these activations, and this worker computes on {own}, which gives other last digits:"
            f" the job waits for a worker with {begun}; if there is none any more, cancel the extraction, which deletes"
            " its shards, and submit again"
        )
