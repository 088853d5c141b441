"""Which jobs read an activation set: their requests name it, in fields of these names and those of their parts."""

from typing import Any, get_args

from sqlalchemy import ColumnElement, Subquery, literal, select, union_all

from hsae.catalog import Job
from hsae.frozen_model import FrozenModel
from hsae.pipeline.kinds.registry import stages
from hsae.pipeline.kinds.stage import StageRequest

_OF_LAYER = "activation_key"
_FIELDS = (_OF_LAYER, "embedding_key")
Path = tuple[str, ...]


def reads(request: StageRequest) -> set[str]:
    """The keys of the activation sets that a job reads while it runs."""
    found = set()
    for path in _paths(type(request)):
        value: Any = request
        for name in path:
            value = None if value is None else getattr(value, name)
        found |= set() if value is None else {value}
    return found


def readers(*conditions: ColumnElement[bool]) -> Subquery:
    """Selects the jobs that read activation sets, and which ones.

    Its columns are `job_id`, `state`, `key` of the set, and `of_layer`: whether the job works on these activations, and
    does not only compare images by them. It has a row for every job and set.

    Args:
        conditions: on `job`.
    """
    return union_all(
        *(
            select(
                Job.id.label("job_id"),
                Job.state,
                Job.request[path].astext.label("key"),
                literal(path[-1] == _OF_LAYER).label("of_layer"),
            ).where(Job.kind == stage.kind, Job.request[path].astext.is_not(None), *conditions)
            for stage in stages()
            for path in _paths(stage.request)
        )
    ).subquery("reader")


def _paths(request: type[FrozenModel]) -> tuple[Path, ...]:
    """Where in a request keys of activation sets stand."""
    found: list[Path] = []
    for name, field in request.model_fields.items():
        if name in _FIELDS:
            found.append((name,))
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, FrozenModel):
                found += [(name, *rest) for rest in _paths(part)]
    return tuple(found)
