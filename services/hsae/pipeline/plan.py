"""From a request to jobs: what exists is reused, what is under way is joined, the rest is queued."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from hsae.backbones import BackboneSpec, check_layers, check_tokens, inspect_backbone
from hsae.catalog import (
    ActivationSet,
    Dataset,
    Job,
    JobDependency,
    Model,
    Study,
    StudyJob,
    transaction,
)
from hsae.catalog.names import short_model_name
from hsae.errors import UserError
from hsae.pipeline.jobs import record
from hsae.pipeline.register import dataset_ref
from hsae.pipeline.requests import AnalyzeRequest, DatasetRef, ExtractRequest, SubmitRequest, TrainRequest
from hsae.sae import check_config
from hsae.settings import Settings

_WHO = "submit"
JobStatus = Literal["new", "again", "joined", "reused"]


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job of a plan: `new`, queued `again` after a failure, `joined` while under way, or `reused` as finished."""

    id: int
    kind: str
    title: str
    status: JobStatus
    state: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a submit led to."""

    study_id: int
    model: BackboneSpec
    dataset: DatasetRef
    layers: tuple[int, ...]
    jobs: tuple[PlannedJob, ...]
    to_ring: tuple[int, ...]


def check_model(request: SubmitRequest, settings: Settings) -> tuple[BackboneSpec, tuple[int, ...]]:
    """Describe the request's backbone and settle its layers; enters nothing.

    Raises:
        UserError: for an unknown model, a layer out of range, or an SAE configuration that cannot be.
    """
    spec = inspect_backbone(request.model, revision=request.revision, cache_dir=settings.model_cache)
    layers = check_layers(spec, range(spec.n_layers) if request.layers == "all" else request.layers)
    check_tokens(spec, request.extraction.tokens)
    for sae in request.saes:
        check_config(sae, spec.d_model)
    return spec, layers


def submit(
    request: SubmitRequest,
    settings: Settings,
    sessions: sessionmaker[Session],
    *,
    checked: tuple[BackboneSpec, tuple[int, ...]] | None = None,
) -> Plan:
    """Check the request, then enter its study and whatever jobs it still needs, all in one transaction.

    `checked` is what `check_model` gave for the request, where that was asked before (it reads all of a local model).

    Raises:
        UserError: what `check_model` raises, and for an unknown data set.
    """
    spec, layers = checked or check_model(request, settings)
    with transaction(sessions) as session:
        # Submits take turns, so that two at the same instant cannot both plan the same artifact.
        session.execute(select(func.pg_advisory_xact_lock(func.hashtext("hsae.submit"))))
        dataset = _find_dataset(session, request.dataset)
        study = Study(name=f"{short_model_name(spec.name)} on {dataset.name}", request=request.model_dump(mode="json"))
        session.add(study)
        session.flush()
        planner = _Planner(session, settings, study.id)
        planner.plan(request, spec, dataset_ref(dataset), layers)
        return Plan(study.id, spec, dataset_ref(dataset), layers, tuple(planner.jobs), tuple(planner.to_ring))


def _find_dataset(session: Session, name: str | None) -> Dataset:
    query = select(Dataset).order_by(Dataset.id)
    if name is not None:
        found = session.scalars(query.where(Dataset.name == name)).first()
        if found is None:
            known = session.scalars(select(Dataset.name).order_by(Dataset.id)).all()
            raise UserError(
                f"there is no data set {name}: register one with `hsae-admin dataset add NAME PATH`"
                + (f" (registered: {', '.join(known)})" if known else "")
            )
        return found
    first = session.scalars(query).first()
    if first is None:
        raise UserError("no data set is registered: register one with `hsae-admin dataset add NAME PATH`")
    return first


class _Planner:
    """Walks from activations to SAEs to analyses and enters what is missing."""

    def __init__(self, session: Session, settings: Settings, study_id: int) -> None:
        self._session = session
        self._settings = settings
        self._study_id = study_id
        self.jobs: list[PlannedJob] = []
        self.to_ring: list[int] = []

    def plan(self, request: SubmitRequest, spec: BackboneSpec, dataset: DatasetRef, layers: tuple[int, ...]) -> None:
        whole = ExtractRequest(model=spec, dataset=dataset, layers=layers, extraction=request.extraction)
        makers = self._activation_jobs(whole)
        model = short_model_name(spec.name)
        for layer in layers:
            for sae in request.saes:
                activation_key = whole.activation_key(layer)
                train = TrainRequest(activation_key=activation_key, sae=sae)
                what = f"{sae.kind} SAE x{sae.expansion} of {model} layer {layer}"
                trained = self._job(train.key, "train", f"train {what}", train, [makers[layer]])
                analyze = AnalyzeRequest(
                    sae_key=train.key, activation_key=activation_key, dataset=dataset, scoring=request.scoring
                )
                self._job(analyze.key, "analyze", f"analyze {what} on {dataset.name}", analyze, [trained])

    def _activation_jobs(self, whole: ExtractRequest) -> dict[int, int]:
        """The job that makes (or made) each layer's activations; the missing layers share one new job."""
        keys = {layer: whole.activation_key(layer) for layer in whole.layers}
        found = self._session.execute(
            select(ActivationSet.key, ActivationSet.job_id)
            .join(Job, Job.id == ActivationSet.job_id)
            # What a failed job has not published is missing, and may be asked for with other layers now.
            .where(ActivationSet.key.in_(keys.values()))
            .where(ActivationSet.manifest_sha256.is_not(None) | Job.state.not_in(("failed", "cancelled")))
        )
        present = {row.key: row.job_id for row in found}
        makers: dict[int, int] = {}
        for job_id in sorted(set(present.values())):
            job = self._session.get_one(Job, job_id, with_for_update=True)
            self._reuse(job, whole.model_copy(update={"layers": tuple(job.request["layers"])}), [])
        missing = []
        for layer, key in keys.items():
            if key in present:
                makers[layer] = present[key]
            else:
                missing.append(layer)
        if missing:
            request = whole.model_copy(update={"layers": tuple(missing)})
            names = _ranges(missing)
            model = short_model_name(whole.model.name)
            title = f"extract {whole.extraction.tokens} of {model} layer {names} over {whole.dataset.name}"
            job_id = self._job(request.key, "extract", title, request, [])
            self._enter_activation_sets(request, job_id)
            makers |= dict.fromkeys(missing, job_id)
        return makers

    def _enter_activation_sets(self, request: ExtractRequest, job_id: int) -> None:
        spec = request.model
        self._session.execute(
            insert(Model)
            .values(
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
        model_id = self._session.execute(
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
            }
            self._session.execute(
                insert(ActivationSet)
                .values(key=request.activation_key(layer), **values)
                .on_conflict_do_update(index_elements=["key"], set_=values)
            )
        self._session.flush()

    def _job(self, key: str, kind: str, title: str, request: BaseModel, needs: Sequence[int]) -> int:
        job = self._session.execute(select(Job).where(Job.key == key).with_for_update()).scalar_one_or_none()
        if job is not None:
            return self._reuse(job, request, needs)
        job = Job(
            key=key,
            kind=kind,
            title=title,
            request=request.model_dump(mode="json"),
            state="waiting" if needs and not self._all_succeeded(needs) else "queued",
            max_attempts=self._settings.max_attempts,
        )
        self._session.add(job)
        self._session.flush()
        self._session.add_all(JobDependency(job_id=job.id, depends_on_id=needed) for needed in needs)
        self._enter(job, "new")
        return job.id

    def _reuse(self, job: Job, request: BaseModel, needs: Sequence[int]) -> int:
        if job.state in {"failed", "cancelled"}:
            # The same artifact, but the model or the data set may lie elsewhere now, and another job may extract it.
            job.request = request.model_dump(mode="json")
            self._session.execute(delete(JobDependency).where(JobDependency.job_id == job.id))
            self._session.add_all(JobDependency(job_id=job.id, depends_on_id=needed) for needed in needs)
            job.state = "waiting" if needs and not self._all_succeeded(needs) else "queued"
            job.max_attempts = self._settings.max_attempts
            job.attempt, job.error, job.finished_at, job.owner = 0, None, None, None
            self._enter(job, "again")
        else:
            self._enter(job, "reused" if job.state == "succeeded" else "joined")
        return job.id

    def _all_succeeded(self, job_ids: Sequence[int]) -> bool:
        self._session.flush()
        states = self._session.scalars(select(Job.state).where(Job.id.in_(job_ids))).all()
        return all(state == "succeeded" for state in states)

    def _enter(self, job: Job, status: JobStatus) -> None:
        self._session.execute(
            insert(StudyJob)
            .values(study_id=self._study_id, job_id=job.id, reused=status != "new")
            .on_conflict_do_nothing()
        )
        if status in {"new", "again"}:
            why = f"asked for by study {self._study_id}" + (" again" if status == "again" else "")
            record(self._session, job.id, _WHO, why, state=job.state)
            if job.state == "queued":
                self._session.execute(update(Job).where(Job.id == job.id).values(notified_at=func.now()))
                self.to_ring.append(job.id)
        self.jobs.append(PlannedJob(job.id, job.kind, job.title, status, job.state))


def _ranges(layers: Sequence[int]) -> str:
    """`[0, 1, 2, 5]` as `0-2, 5`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
