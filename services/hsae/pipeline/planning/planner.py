"""From a request to jobs: what exists is reused, what is under way is joined, the rest is queued."""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from hsae.backbones.spec import BackboneSpec
from hsae.catalog import ActivationSet, Job, JobDependency, Model, StudyJob
from hsae.catalog.names import short_model_name
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.planning.embeddings import LAST, OWN, GivenSet, find_set, last_layer
from hsae.pipeline.planning.planned_job import REASON_OF_STATUS, JobStatus, PlannedJob, Step
from hsae.pipeline.planning.requests import AnalyzeRequest, CompareRequest, ExtractRequest, SubmitRequest, TrainRequest
from hsae.pipeline.planning.setting_labels import extraction_label, sae_label, scoring_label
from hsae.pipeline.queue.jobs import record, requeue
from hsae.report.ranges import ranges
from hsae.sae.config import SaeConfig
from hsae.settings import Settings

_WHO = "submit"


class Planner:
    """Walks from activations to SAEs, analyses and their comparison; enters what is missing, under submits' lock.

    `numbers` are ids for the rows of a plan that is taken back: they keep it from using up numbers of the catalog.
    """

    def __init__(
        self, session: Session, settings: Settings, priority: int, numbers: Iterator[int] | None = None
    ) -> None:
        self._session = session
        self._settings = settings
        self._priority = priority
        self._numbers = numbers
        self._steps: list[Step] = []
        self._hurried: list[Job] = []
        self.jobs: list[PlannedJob] = []
        self.embeddings = ""
        self.comparison_key = ""
        self.to_ring: list[int] = []

    def plan(self, request: SubmitRequest, spec: BackboneSpec, dataset: DatasetRef, layers: tuple[int, ...]) -> None:
        """Find or make the request's jobs; `comparison_key` and `embeddings` tell what they lead to."""
        whole = ExtractRequest(model=spec, dataset=dataset, layers=layers, extraction=request.extraction)
        makers, embedding = self._inputs(whole, request.scoring.embeddings)
        model = short_model_name(spec.name)
        wanted = []
        for layer in layers:
            activation_key = whole.activation_key(layer)
            for sae in dict.fromkeys(request.saes):
                train = TrainRequest(activation_key=activation_key, sae=sae)
                analyze = AnalyzeRequest(
                    sae_key=train.key,
                    activation_key=activation_key,
                    dataset=dataset,
                    scoring=request.scoring,
                    embedding_key=None if embedding is None or embedding.key == activation_key else embedding.key,
                )
                wanted.append((layer, sae, train, analyze))
        compare = CompareRequest(
            analyses=tuple(sorted(analyze.key for _, _, _, analyze in wanted)),
            dataset=dataset,
            comparison=request.comparison,
        )
        known = self._known(
            [compare.key, *(key for _, _, train, analyze in wanted for key in (train.key, analyze.key))]
        )
        analyses = []
        tokens = extraction_label(request.extraction)
        for layer, sae, train, analyze in wanted:
            what = f"{sae_label(sae)} of {model} layer {layer}" + ("" if tokens == "cls" else f", {tokens}")
            trained = self._job(
                known.get(train.key), "train", f"train {what}", train, train.key, (makers[layer],), (layer,), sae
            )
            title = f"analyze {what} on {dataset.name}{scoring_label(request.scoring)}"
            needs = (trained,) if analyze.embedding_key is None or embedding is None else (trained, embedding.maker)
            analyses.append(
                self._job(known.get(analyze.key), "analyze", title, analyze, analyze.key, needs, (layer,), sae)
            )
        title = f"compare the analyses of {model} layer {ranges(layers)} on {dataset.name}"
        self._job(known.get(compare.key), "compare", title, compare, compare.key, tuple(analyses), layers, None)
        self.comparison_key = compare.key

    def _inputs(self, whole: ExtractRequest, embeddings: str) -> tuple[dict[int, Job], GivenSet | None]:
        """The job that makes each layer's activations, and the set that monosemanticity compares images in."""
        if embeddings == OWN:
            self.embeddings = "activations of the analysed layer itself"
            return self._activation_jobs(whole), None
        if embeddings != LAST:
            makers = self._activation_jobs(whole)
            given = find_set(self._session, embeddings, whole.dataset)
            self.embeddings = given.title
            if given.maker.id not in {step.job.id for step in self._steps}:
                extraction = ExtractRequest.model_validate(given.maker.request)
                extraction = extraction.model_copy(update={"dataset": whole.dataset})  # which may lie elsewhere now
                self._reuse(given.maker, given.maker.title, extraction, (), extraction.layers, None)
            return makers, given
        last = last_layer(whole.model, whole.dataset, whole.extraction)
        (layer,) = last.layers
        self.embeddings = f"{last.extraction.tokens} of {short_model_name(whole.model.name)} layer {layer}"
        if last.extraction == whole.extraction:  # one more layer of the same pass
            makers = self._activation_jobs(whole.model_copy(update={"layers": tuple(sorted({*whole.layers, layer}))}))
            maker = makers[layer]
        else:
            makers = self._activation_jobs(whole)
            maker = self._activation_jobs(last)[layer]
        return makers, GivenSet(last.activation_key(layer), self.embeddings, maker)

    def _known(self, keys: Sequence[str]) -> dict[str, Job]:
        """The jobs that exist for these artifacts; their rows are locked."""
        found = self._session.scalars(select(Job).where(Job.key.in_(keys)).order_by(Job.id).with_for_update())
        return {job.key: job for job in found}

    def _activation_jobs(self, whole: ExtractRequest) -> dict[int, Job]:
        """The job that makes (or made) each layer's activations; the missing layers share one new job."""
        keys = {layer: whole.activation_key(layer) for layer in whole.layers}
        found = self._session.execute(
            select(ActivationSet.key, ActivationSet.job_id, ActivationSet.manifest_sha256, Job.state)
            .join(Job, Job.id == ActivationSet.job_id)
            .where(ActivationSet.key.in_(keys.values()))
        ).all()
        # What a failed job has not published is missing and may be asked for with other layers now, unless the job
        # is queued again for the sake of a layer that it has.
        useful = {
            row.job_id for row in found if row.manifest_sha256 is not None or row.state not in {"failed", "cancelled"}
        }
        jobs = {
            job.id: job
            for job in self._session.scalars(select(Job).where(Job.id.in_(useful)).order_by(Job.id).with_for_update())
        }
        for job in jobs.values():
            own = tuple(job.request["layers"])
            self._reuse(job, job.title, whole.model_copy(update={"layers": own}), (), own, None)
        makers = {}
        for layer, key in keys.items():
            job_id = next((row.job_id for row in found if row.key == key and row.job_id in jobs), None)
            if job_id is not None:
                makers[layer] = jobs[job_id]
        missing = tuple(layer for layer in keys if layer not in makers)
        if missing:
            request = whole.model_copy(update={"layers": missing})
            model = short_model_name(whole.model.name)
            tokens = extraction_label(whole.extraction)
            title = f"extract {tokens} of {model} layer {ranges(missing)} over {whole.dataset.name}"
            known = self._known([request.key]).get(request.key)
            job = self._job(known, "extract", title, request, request.key, (), missing, None)
            self._session.flush()
            self._enter_activation_sets(request, job.id)
            makers |= dict.fromkeys(missing, job)
        return makers

    def _enter_activation_sets(self, request: ExtractRequest, job_id: int) -> None:
        spec = request.model
        self._session.execute(
            insert(Model)
            .values(
                **self._number(),
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
                .values(**self._number(), key=request.activation_key(layer), **values)
                .on_conflict_do_update(index_elements=["key"], set_=values)
            )
        self._session.flush()

    def _job(
        self,
        known: Job | None,
        kind: str,
        title: str,
        request: BaseModel,
        key: str,
        needs: tuple[Job, ...],
        layers: tuple[int, ...],
        sae: SaeConfig | None,
    ) -> Job:
        if known is not None:
            return self._reuse(known, title, request, needs, layers, sae)
        job = Job(
            **self._number(),
            key=key,
            kind=kind,
            title=title,
            request=request.model_dump(mode="json"),
            state=_first_state(needs),
            priority=self._priority,
            max_attempts=self._settings.max_attempts,
        )
        self._session.add(job)
        self._steps.append(Step(job, "new", title, needs, layers, sae))
        return job

    def _reuse(
        self,
        job: Job,
        title: str,
        request: BaseModel,
        needs: tuple[Job, ...],
        layers: tuple[int, ...],
        sae: SaeConfig | None,
    ) -> Job:
        if job.state in {"failed", "cancelled"}:
            # The same artifact, but the model or the data set may lie elsewhere now, and another job may extract it.
            job.request = request.model_dump(mode="json")
            requeue(job, _first_state(needs))
            job.max_attempts = self._settings.max_attempts
            job.priority = self._priority
            status: JobStatus = "again"
        else:
            if job.state != "succeeded" and job.priority < self._priority:
                # Whoever is in more of a hurry decides. A second message does no harm, and it is read first.
                job.priority = self._priority
                self._hurried.append(job)
            status = "reused" if job.state == "succeeded" else "joined"
        self._steps.append(Step(job, status, title, needs, layers, sae))
        return job

    def enter(self, study_id: int) -> None:
        """Enter what the steps found missing, and the study's part in all of them; `jobs` and `to_ring` tell it."""
        self._session.flush()
        made = [step for step in self._steps if step.status in REASON_OF_STATUS]
        again = [step.job.id for step in made if step.status == "again"]
        self._session.execute(delete(JobDependency).where(JobDependency.job_id.in_(again)))
        self._link(study_id)
        for step in made:
            why = f"asked for by study {study_id}" + (" again" if step.status == "again" else "")
            if self._numbers is None:
                record(
                    self._session, step.job.id, _WHO, why, reason=REASON_OF_STATUS[step.status], state=step.job.state
                )
            self._session.add_all(JobDependency(job_id=step.job.id, depends_on_id=job.id) for job in step.needs)
        queued = [step.job.id for step in made if step.job.state == "queued"]
        self._session.execute(
            update(Job)
            .where(Job.id.in_(queued))
            .values(notified_at=func.now())
            .execution_options(synchronize_session=False)
        )
        self.to_ring = queued + [job.id for job in self._hurried if job.state == "queued"]
        self.jobs = [step.planned() for step in self._steps]

    def _link(self, study_id: int) -> None:
        """The study's jobs are those of the steps: of a study that was there some may be made by other jobs now."""
        ids = [step.job.id for step in self._steps]
        of_study = StudyJob.study_id == study_id
        self._session.execute(delete(StudyJob).where(of_study, StudyJob.job_id.not_in(ids)))
        linked = set(self._session.scalars(select(StudyJob.job_id).where(of_study)))
        for step in self._steps:
            if step.job.id not in linked:
                self._session.add(StudyJob(study_id=study_id, job_id=step.job.id, reused=step.status != "new"))

    def _number(self) -> dict[str, int]:
        return {} if self._numbers is None else {"id": next(self._numbers)}


def _first_state(needs: Sequence[Job]) -> str:
    return "queued" if all(job.state == "succeeded" for job in needs) else "waiting"
