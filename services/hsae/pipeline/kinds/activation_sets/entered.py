"""The rows of an extraction's activation sets, before anything of them is stored."""

from collections.abc import Callable, Mapping

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from hsae.catalog import ActivationSet, Model
from hsae.pipeline.kinds.extract import ExtractRequest


def enter_activation_sets(
    session: Session, request: ExtractRequest, job_id: int, number: Callable[[], Mapping[str, int]]
) -> None:
    """Enter the model and a set for every layer; a set that is there becomes this job's.

    Args:
        session: a database session.
        request: what is extracted.
        job_id: the job that makes them.
        number: the id of each new row, where the catalog is not to give one.
    """
    spec = request.model
    session.execute(
        insert(Model)
        .values(
            **number(),
            name=spec.name,
            revision=spec.revision,
            model_type=spec.model_type,
            n_layers=spec.n_layers,
            d_model=spec.d_model,
            n_patches=spec.n_patches,
            preprocessing=spec.preprocessing,
        )
        .on_conflict_do_nothing()
    )
    model_id = session.execute(
        select(Model.id).where(Model.name == spec.name, Model.revision == spec.revision)
    ).scalar_one()
    for layer in request.layers:
        values = {
            "model_id": model_id,
            "dataset_id": request.dataset.id,
            "job_id": job_id,
            "layer": layer,
            "tokens": request.extraction.tokens,
            "dtype": request.extraction.dtype,
            "n_views": request.extraction.n_views,
            "hook": request.extraction.hook,
            "d_model": spec.shape(layer, request.extraction.hook).width,
        }
        session.execute(
            insert(ActivationSet)
            .values(**number(), key=request.activation_key(layer), **values)
            .on_conflict_do_update(index_elements=["key"], set_=values)
        )
    session.flush()
