"""A submit: its request is checked, planned and entered, or only shown."""

import itertools
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from hsae.backbones.hooks.names import RESIDUAL, same_hook
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.names import short_model_name
from hsae.backbones.spec import (
    BackboneSize,
    BackboneSpec,
    check_equal_rows,
    check_layers,
    check_resizes,
    check_tokens,
)
from hsae.catalog import Study, transaction
from hsae.catalog.server.locks import SUBMIT_LOCK, take_lock
from hsae.errors import UserError
from hsae.extraction.config import DropAfter
from hsae.pipeline.inputs.dataset_ref import DatasetRef, dataset_ref
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.planning.planned_job import REASON_OF_STATUS, PlannedJob
from hsae.pipeline.planning.planner import Planner
from hsae.pipeline.planning.requests import SubmitRequest, study_key
from hsae.pipeline.planning.score_dataset import find_datasets, reads_halved
from hsae.pipeline.planning.settled import settled
from hsae.pipeline.planning.wanted_jobs import n_wanted_jobs
from hsae.pipeline.queue.jobs import notifications_for
from hsae.pipeline.queue.notifier import Notification
from hsae.sae.config import SaeConfig, check_config
from hsae.settings import Settings

MAX_JOBS = 5_000  # planned in seconds, in which the leases of jobs that are joined cannot be renewed


@dataclass(frozen=True, slots=True)
class Preview:
    """What a submit would lead to. The ids of `new` jobs are not settled.

    `embeddings`: what monosemanticity compares images by, for people. `study_id`: the study, None where it would be a
    new one. `score_dataset`: the data set that is scored where `dataset` trains alone. `drop_after`: after which jobs
    the activations are deleted, None where they are kept.
    """

    model: BackboneSpec
    dataset: DatasetRef
    layers: tuple[int, ...]
    embeddings: str
    jobs: tuple[PlannedJob, ...]
    study_id: int | None
    score_dataset: DatasetRef | None
    drop_after: DropAfter | None

    @property
    def n_queued(self) -> int:
        """Jobs that are to be made: new ones and those that are queued again."""
        return sum(job.status in REASON_OF_STATUS for job in self.jobs)

    def differs_from(self, other: "Preview") -> bool:
        """Whether other jobs are to be made, joined or reused."""
        return {(job.key, job.status) for job in self.jobs} != {(job.key, job.status) for job in other.jobs}


@dataclass(frozen=True, slots=True)
class Plan(Preview):
    """What a submit led to.

    `is_new`: nobody had asked for this before; `name`: the study's; `former_name`: the one that it had until now.
    """

    study_id: int
    name: str
    is_new: bool
    former_name: str
    to_notify: tuple[Notification, ...]


def check_model(request: SubmitRequest, settings: Settings) -> tuple[BackboneSpec, tuple[int, ...]]:
    """Describe the request's backbone and settle its layers; enters nothing.

    Raises:
        UserError: for an unknown model, a layer out of range, an SAE configuration that cannot be, too many jobs, or a
            seed that is none.
    """
    mistakes, possible = _impossible_numbers(request)

    def accept(size: BackboneSize) -> None:
        _settled_layers(possible, size)
        if mistakes:  # what is left to check would take seconds
            raise _NothingElseError

    try:
        # The size alone is known seconds before the whole of the model.
        spec = inspect_backbone(
            request.model,
            revision=request.revision,
            cache_dir=settings.model_cache,
            random_seed=possible.random_init,
            accept=accept,
            hook=request.extraction.hook,
        )
    except _NothingElseError:
        raise UserError("; ".join(mistakes)) from None
    except UserError as error:
        if not mistakes:
            raise
        raise UserError("; ".join([*mistakes, str(error)])) from error
    if mistakes:
        raise UserError("; ".join(mistakes))
    layers = _settled_layers(request, spec)
    extraction = request.extraction
    tokens, hook, n_sampled = extraction.tokens, extraction.hook, extraction.patches_per_image
    check_tokens(spec, tokens, hook=hook, n_sampled=n_sampled)
    check_equal_rows(spec, layers, tokens, hook=hook, n_sampled=n_sampled)
    if extraction.decode != "exact":
        check_resizes(spec.preprocessing, spec.name)
    return spec, layers


class _NothingElseError(Exception):
    """The rest of a request is possible, as far as is known at once."""


def _impossible_numbers(request: SubmitRequest) -> tuple[list[str], SubmitRequest]:
    """What is wrong with the layers and the seed whatever the model is, and the request without it."""
    mistakes: list[str] = []
    if request.layers != "all" and min(request.layers, default=0) < 0:
        negative = sorted(layer for layer in request.layers if layer < 0)
        mistakes.append(f"there is no layer {', '.join(map(str, negative))}: layers count from 0")
        others = tuple(layer for layer in request.layers if layer >= 0)
        request = request.model_copy(update={"layers": others or "all"})
    seed = request.random_init
    if seed is not None and not 0 <= seed < 2**63:
        mistakes.append(f"random init cannot have the seed {seed}: give one from 0 to {2**63 - 1}")
        request = request.model_copy(update={"random_init": 0})
    return mistakes, request


def _settled_layers(request: SubmitRequest, spec: BackboneSpec | BackboneSize) -> tuple[int, ...]:
    """The request's layers: all are in the backbone, whose width allows the SAEs. Raises as `check_model`."""
    layers = check_layers(spec, range(spec.n_layers) if request.layers == "all" else request.layers)
    widths = _widths(request, spec, layers)
    for sae in request.saes:
        for width in widths:
            check_config(sae, width)
        _check_layer(sae, layers, request.extraction.hook)
    _check_size(request, len(layers), n_splits=1)
    return layers


def _widths(request: SubmitRequest, spec: BackboneSpec | BackboneSize, layers: tuple[int, ...]) -> list[int]:
    """The widths of the activations; none where only the width of the residual stream is known, and another counts."""
    hook = request.extraction.hook
    if isinstance(spec, BackboneSize):
        return [spec.d_model] if hook == RESIDUAL else []
    return sorted({spec.shape(layer, hook).width for layer in layers})


def _check_layer(sae: SaeConfig, layers: tuple[int, ...], hook: str) -> None:
    """Refuse an imported SAE for another layer or hook point than its own, or for several."""
    origin = sae.imported
    if origin is not None and not same_hook(origin.hook, hook):
        if origin.hook_point is None and origin.hook == RESIDUAL:
            raise UserError(
                f"the imported SAE {origin.name} names no place, so it is of the residual stream, and the hook point"
                f" {hook} is asked for: leave --hook out, or import it again with --hook {shlex.quote(hook)}"
            )
        raise UserError(
            f"the imported SAE {origin.name} was trained on the hook point {origin.hook}, and {hook} is asked for: give"
            f" --hook {shlex.quote(origin.hook)}, or leave the SAE out; or import it again with the right --hook"
        )
    if origin is None or layers == (origin.layer,) or (origin.layer is None and len(layers) == 1):
        return
    asked = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
    if origin.layer is None:
        raise UserError(f"the imported SAE {origin.name} is of one layer, and {asked} are asked for: give its --layer")
    raise UserError(
        f"the imported SAE {origin.name} was trained on layer {origin.layer}, and {asked} is asked for: give"
        f" --layer {origin.layer} alone"
    )


def _check_size(request: SubmitRequest, n_layers: int, *, n_splits: int) -> None:
    n_jobs = n_splits * n_wanted_jobs(n_layers, set(request.saes), request.own)
    if n_jobs > MAX_JOBS:
        raise UserError(
            f"{n_jobs} jobs are more than the {MAX_JOBS} of one study: ask for fewer layers or SAEs at once"
        )


def submit(
    request: SubmitRequest,
    settings: Settings,
    sessions: sessionmaker[Session],
    *,
    checked: tuple[BackboneSpec, tuple[int, ...]] | None = None,
    is_halved: bool | None = None,
) -> Plan:
    """Check the request, then enter its study and whatever jobs it still needs, all in one transaction.

    `checked` is what `check_model` gave for the request, where that was asked before (it reads all of a local model);
    `is_halved` whether its split halves the data set, where that is known (None: the listing is read).

    Raises:
        UserError: what `check_model` raises, and for unknown data sets or two that cannot be used together, or images
            that cannot be split.
    """
    if checked is None:
        request = settled(request, settings)
        checked = check_model(request, settings)
    is_halved = reads_halved(request, settings, sessions) if is_halved is None else is_halved
    with transaction(sessions) as session:
        return _enter_study(session, request, settings, *checked, is_halved=is_halved)


def preview(
    request: SubmitRequest,
    settings: Settings,
    sessions: sessionmaker[Session],
    *,
    checked: tuple[BackboneSpec, tuple[int, ...]] | None = None,
    is_halved: bool | None = None,
) -> Preview:
    """What `submit` would do now: it is done and taken back, so that the two cannot disagree. Raises as `submit`."""
    if checked is None:
        request = settled(request, settings)
        checked = check_model(request, settings)
    is_halved = reads_halved(request, settings, sessions) if is_halved is None else is_halved
    with transaction(sessions) as session:
        # Rows that are taken back have negative numbers: those of the catalog stay for what is entered.
        numbers = itertools.count(-1, -1)
        plan = _enter_study(session, request, settings, *checked, is_halved=is_halved, numbers=numbers)
        session.rollback()
    study_id = None if plan.is_new else plan.study_id
    shown = (plan.model, plan.dataset, plan.layers, plan.embeddings, plan.jobs)
    return Preview(*shown, study_id, plan.score_dataset, plan.drop_after)


def _enter_study(
    session: Session,
    request: SubmitRequest,
    settings: Settings,
    spec: BackboneSpec,
    layers: tuple[int, ...],
    *,
    is_halved: bool,
    numbers: Iterator[int] | None = None,
) -> Plan:
    splits = request.splits(is_halved=is_halved)
    _check_size(request, len(layers), n_splits=len(splits))
    # Submits take turns, so that two at the same instant cannot both plan the same artifact.
    take_lock(session, SUBMIT_LOCK)
    dataset, scored = find_datasets(session, request.dataset, request.score_dataset, request.split)
    ref, scored_ref = dataset_ref(dataset), None if scored is None else dataset_ref(scored)
    planner = Planner(session, settings, request.priority, numbers)
    planner.plan(request, spec, ref, layers, scored_ref, splits)
    key = study_key(
        planner.comparison_key,
        dataset.id,
        request.probe,
        None if scored is None else scored.id,
        {kind: settings for kind, settings in request.own.items() if stage_of(kind).tells_studies_apart},
    )
    study = session.scalars(select(Study).where(Study.request_key == key)).one_or_none()
    is_new = study is None
    if study is None:
        where = dataset.name if scored is None else f"{dataset.name}, scored on {scored.name}"
        name = request.name or f"{short_model_name(spec.name)} on {where}"
        study = Study(request_key=key, name=name, **({} if numbers is None else {"id": next(numbers)}))
        session.add(study)
    former_name = study.name
    study.name = request.name or study.name
    settled = {
        "dataset": dataset.name, "score_dataset": None if scored is None else scored.name, "layers": layers,
    }  # fmt: skip
    study.request = request.model_copy(update=settled).model_dump(mode="json")
    study.submitted_at = func.clock_timestamp()
    session.flush()
    planner.enter(study.id)
    return Plan(
        spec,
        ref,
        layers,
        planner.embeddings,
        tuple(planner.jobs),
        study_id=study.id,
        score_dataset=scored_ref,
        drop_after=request.drop_after,
        name=study.name,
        is_new=is_new,
        former_name=former_name,
        to_notify=notifications_for(session, planner.to_notify),
    )
