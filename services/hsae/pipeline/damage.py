"""A lost or damaged object of a finished job: forgotten here, so that the next submit makes it anew.

Stages are deterministic, so what is made again has the same bits and everything that was derived from it stays valid.
"""

from sqlalchemy import delete, func, null, select, update
from sqlalchemy.orm import Session

from hsae.catalog import ActivationSet, ActivationShard, Analysis, Job, Sae
from hsae.pipeline import jobs
from hsae.store.keys import ACTIVATIONS, ANALYSES, SAES


def forget_object(session: Session, object_key: str, who: str, reason: str) -> None:
    """Fail the job that made `object_key`; of an extraction, also forget the shards that must be made again."""
    kind, _, rest = object_key.partition("/")
    key = rest.partition("/")[0]
    if kind == ACTIVATIONS:
        maker = session.execute(select(ActivationSet.job_id).where(ActivationSet.key == key)).scalar_one_or_none()
        if maker is None:
            return
        # A lost manifest is written again from the rows.
        session.execute(delete(ActivationShard).where(ActivationShard.object_key == object_key))
        session.execute(update(ActivationSet).where(ActivationSet.key == key).values(manifest_sha256=None))
    elif kind == SAES:
        maker = session.execute(select(Sae.job_id).where(Sae.key == key)).scalar_one_or_none()
        if maker is None:
            return
    elif kind == ANALYSES:
        maker = session.execute(select(Analysis.job_id).where(Analysis.key == key)).scalar_one_or_none()
        if maker is None:
            return
    else:  # data sets and taxonomies are stored again by `dataset add`
        return
    state = session.execute(select(Job.state).where(Job.id == maker).with_for_update()).scalar_one()
    if state == "succeeded":
        session.execute(
            update(Job)
            .where(Job.id == maker)
            .values(state="failed", error=reason, result=null(), finished_at=func.now())
        )
        jobs.record(session, maker, who, reason, reason="failed", state="failed")
