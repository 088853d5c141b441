"""Which jobs read an activation set: their requests name it, in fields of these names and those of their parts."""

from collections.abc import Iterator
from typing import Any, get_args

from sqlalchemy import ColumnElement, Subquery, cast, func, literal, select, union_all
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH

from hsae.catalog import Job
from hsae.frozen_model import FrozenModel
from hsae.pipeline.kinds.registry import stages
from hsae.pipeline.kinds.stage import StageRequest

_OF_LAYER = "activation_key"
_FIELDS = (_OF_LAYER, "embedding_key")
Path = tuple[str, ...]


def reads(request: StageRequest) -> set[str]:
    """The keys of the activation sets that a job reads while it runs."""
    return {key for path in _paths(type(request)) for key in _keys(request, path)}


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
                _named(path).label("key"),
                literal(path[-1] == _OF_LAYER).label("of_layer"),
            ).where(Job.kind == stage.kind, *conditions)
            for stage in stages()
            for path in _paths(stage.request)
        )
    ).subquery("reader")


def _named(path: Path) -> ColumnElement[str]:
    """The keys at a path of `job.request`, a row for each: it also goes through lists, and leaves null out."""
    where = cast(f"$.{'.'.join(path)} ? (@ != null)", JSONPATH)
    found: ColumnElement[str] = func.jsonb_path_query(Job.request, where, type_=JSONB)[()].astext
    return found


def _keys(value: Any, path: Path) -> Iterator[str]:
    """What stands at a path of a request, in every part of a list; nothing where a part is not there."""
    if isinstance(value, tuple):
        for part in value:
            yield from _keys(part, path)
    elif path:
        yield from () if value is None else _keys(getattr(value, path[0]), path[1:])
    elif value is not None:
        yield value


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
