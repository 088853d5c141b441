"""From a request to jobs: existing artifacts are reused, jobs under way are joined, the rest is queued."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from hsae.backbones.spec import BackboneSpec
from hsae.catalog import UNSUCCESSFUL_STATES, ActivationSet, Dataset, Job, JobDependency, StudyJob
from hsae.pipeline.estimate import NOTHING
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.activation_sets.dropped import OpenedSet, open_again
from hsae.pipeline.kinds.activation_sets.entered import enter_activation_sets
from hsae.pipeline.kinds.activation_sets.readers import reads
from hsae.pipeline.kinds.compare import COMPARE
from hsae.pipeline.kinds.extract import EXTRACT, ExtractRequest
from hsae.pipeline.kinds.registry import stages
from hsae.pipeline.kinds.spread.part import PART, parts_of, parts_of_job
from hsae.pipeline.kinds.stage import Asked
from hsae.pipeline.planning.embeddings import LAST, OWN, embedding_key, find_set, last_layer
from hsae.pipeline.planning.planned_job import REASON_OF_STATUS, JobStatus, PlannedJob, Step, WantedJob
from hsae.pipeline.planning.requests import Splits, SubmitRequest
from hsae.pipeline.planning.wanted_jobs import wanted_jobs
from hsae.pipeline.queue.jobs import record, requeue
from hsae.settings import Settings

_WHO = "submit"


class Planner:
    """Plans from activations to SAEs, analyses and a comparison, and enters missing jobs; needs the lock of submits.

    `numbers` are ids for the rows of a plan that is rolled back: such a plan uses up no ids of the catalog.
    """

    def __init__(
        self, session: Session, settings: Settings, priority: int, numbers: Iterator[int] | None = None
    ) -> None:
        self._session = session
        self._settings = settings
        self._priority = priority
        self._numbers = numbers
        self._steps: list[Step] = []
        self._makers: dict[str, Job] = {}  # by the artifact's key
        self._hurried: list[Job] = []
        self._opened: tuple[OpenedSet, ...] = ()
        self.jobs: list[PlannedJob] = []
        self.embeddings = ""
        self.comparison_key = ""
        self.to_notify: list[int] = []

    def plan(
        self,
        request: SubmitRequest,
        spec: BackboneSpec,
        dataset: DatasetRef,
        layers: tuple[int, ...],
        score_dataset: DatasetRef | None = None,
        splits: Splits | None = None,
    ) -> None:
        """Find or make the request's jobs; sets `comparison_key` and `embeddings`.

        `score_dataset` is the data set that is scored where `dataset` trains alone, `splits` those by each of which the
        request's SAEs are trained and scored (None: its own).
        """
        study = Asked(
            model=spec,
            dataset=dataset,
            layers=layers,
            extraction=request.extraction,
            scoring=request.scoring,
            comparison=request.comparison,
            probe=request.probe,
            split=request.split,
            score_dataset=score_dataset,
            own=request.own,
            n_images=self._row(dataset).n_images,
            n_scored=self._row(score_dataset or dataset).n_images,
            n_nodes=self._row(score_dataset or dataset).n_nodes,
        )
        study = replace(study, embedding_key=embedding_key(self._session, study.of_scored()))
        wanted = wanted_jobs(study, tuple(dict.fromkeys(request.saes)), splits or (request.split,))
        keeps = request.drop_after is None
        self._opened = open_again(self._session, [job.request for job in wanted], keeps=keeps)
        if score_dataset is not None:
            self._plan_activations(study, EXTRACT.ask(study))
        self._inputs(study.of_scored())
        for stage in stages():
            if stage.is_wanted(request.own):
                stage.check_names(study, self._session)
        known = self._known([job.request.key for job in wanted])
        for job in wanted:
            self._makers[job.request.key] = self._job(known.get(job.request.key), job)
        (self.comparison_key,) = (job.request.key for job in wanted if job.kind == COMPARE.kind)

    def _row(self, dataset: DatasetRef) -> Dataset:
        return self._session.get_one(Dataset, dataset.id)

    def _inputs(self, study: Asked) -> None:
        """Plan the scored activations of all layers, and the set that monosemanticity compares images in."""
        whole = EXTRACT.ask(study)
        embeddings = study.scoring.embeddings
        if embeddings == OWN:
            self.embeddings = "activations of the analysed layer itself"
            self._plan_activations(study, whole)
            return
        if embeddings != LAST:
            self._plan_activations(study, whole)
            given = find_set(self._session, embeddings, whole.dataset)
            self.embeddings = given.title
            self._makers[given.key] = given.maker
            if given.maker.id not in {step.job.id for step in self._steps}:
                extraction = ExtractRequest.model_validate(given.maker.request)
                extraction = extraction.model_copy(update={"dataset": whole.dataset})  # which may lie elsewhere now
                self._reuse_extraction(study, given.maker, extraction)
            return
        last = last_layer(whole.model, whole.dataset, whole.extraction)
        (layer,) = last.layers
        self.embeddings = f"{last.extraction.tokens} of {study.model_name} layer {layer}"
        if last.extraction == whole.extraction:  # one more layer of the same pass
            layers = tuple(sorted({*whole.layers, layer}))
            self._plan_activations(study, whole.model_copy(update={"layers": layers}))
        else:
            self._plan_activations(study, whole)
            self._plan_activations(study, last)

    def _known(self, keys: Sequence[str]) -> dict[str, Job]:
        """The existing jobs for these artifacts; their rows are locked."""
        found = self._session.scalars(select(Job).where(Job.key.in_(keys)).order_by(Job.id).with_for_update())
        return {job.key: job for job in found}

    def _plan_activations(self, study: Asked, whole: ExtractRequest) -> None:
        """Find the job that makes (or made) each layer's activations; the missing layers share one new job."""
        keys = {layer: whole.activation_key(layer) for layer in whole.layers}
        found = self._session.execute(
            select(ActivationSet.key, ActivationSet.job_id, ActivationSet.manifest_sha256, Job.state)
            .join(Job, Job.id == ActivationSet.job_id)
            .where(ActivationSet.key.in_(keys.values()))
        ).all()
        # What a failed job has not published is missing and may be asked for with other layers now, unless the job
        # is queued again for the sake of a layer that it has.
        useful = {
            row.job_id for row in found if row.manifest_sha256 is not None or row.state not in UNSUCCESSFUL_STATES
        }
        jobs = {
            job.id: job
            for job in self._session.scalars(select(Job).where(Job.id.in_(useful)).order_by(Job.id).with_for_update())
        }
        for job in jobs.values():
            layers = tuple(job.request["layers"])
            asked = replace(study, layers=layers, extraction=whole.extraction)
            parts = self._plan_parts(asked, job, is_gone=bool(self._layers_gone(job)))
            self._reuse_extraction(study, job, whole.model_copy(update={"layers": layers}), parts)
        self._makers |= {row.key: jobs[row.job_id] for row in found if row.job_id in jobs}
        missing = tuple(layer for layer, key in keys.items() if key not in self._makers)
        if missing:
            asked = replace(study, layers=missing, extraction=whole.extraction)
            wanted = WantedJob.of(EXTRACT, asked)
            known = self._known([wanted.request.key]).get(wanted.request.key)
            is_gone = bool({gone.key for gone in self._opened} & {keys[layer] for layer in missing})
            wanted = replace(wanted, needs=self._plan_parts(asked, known, is_gone=is_gone))
            job = self._job(known, wanted)
            self._session.flush()
            request = whole.model_copy(update={"layers": missing})
            enter_activation_sets(self._session, request, job.id, self._number)
            self._makers |= dict.fromkeys(EXTRACT.artifact_keys(request), job)

    def _plan_parts(self, asked: Asked, extraction: Job | None, *, is_gone: bool) -> tuple[str, ...]:
        """Find or make the parts of an extraction, whose job may exist; returns the keys that it waits for.

        `is_gone`: what they stored was dropped.
        """
        if extraction is None or is_gone or extraction.state in UNSUCCESSFUL_STATES:
            parts = tuple(parts_of(asked, self._settings.extraction_part_images))
        else:  # as it was divided
            parts = parts_of_job(self._session, extraction.id)
        known = self._known([part.request.key for part in parts])
        for part in parts:
            wanted = WantedJob(PART.kind, PART.queue, part.request, part.title, (), asked.layers, is_gone=is_gone)
            self._makers[part.request.key] = self._job(known.get(part.request.key), wanted)
        return tuple(part.request.key for part in parts)

    def _reuse_extraction(self, study: Asked, job: Job, request: ExtractRequest, parts: tuple[str, ...] = ()) -> None:
        gone = self._layers_gone(job)
        asked = replace(study, model=request.model, layers=gone, extraction=request.extraction)
        estimate = EXTRACT.estimate(asked) if gone else NOTHING
        wanted = WantedJob(EXTRACT.kind, EXTRACT.queue, request, job.title, parts, request.layers, estimate=estimate)
        self._reuse(job, replace(wanted, is_gone=bool(gone)))

    def _layers_gone(self, job: Job) -> tuple[int, ...]:
        """Of what an extraction has made, the layers that were dropped and are to be made again."""
        return tuple(gone.layer for gone in self._opened if gone.job_id == job.id)

    def _job(self, known: Job | None, wanted: WantedJob) -> Job:
        if known is not None:
            return self._reuse(known, wanted)
        needs = self._needed(wanted)
        job = Job(
            **self._number(),
            key=wanted.request.key,
            kind=wanted.kind,
            queue=self._queue(wanted),
            title=wanted.title,
            request=wanted.request.model_dump(mode="json"),
            state=_first_state(needs),
            priority=self._priority,
            max_attempts=self._settings.max_attempts,
        )
        self._session.add(job)
        self._steps.append(Step(job, "new", wanted, needs))
        return job

    def _queue(self, wanted: WantedJob) -> str:
        return wanted.queue_at(self._settings.gpu_analysis_minutes)

    def _needed(self, wanted: WantedJob) -> tuple[Job, ...]:
        """The jobs that make what a job needs; one job may make several of its inputs.

        Where its SAE exists, activations that are made again are not among what it waits for otherwise.
        """
        gone = reads(wanted.request) & {gone.key for gone in self._opened}
        return tuple(dict.fromkeys(self._makers[key] for key in (*wanted.needs, *sorted(gone))))

    def _reuse(self, job: Job, wanted: WantedJob) -> Job:
        needs = self._needed(wanted)
        if job.state in UNSUCCESSFUL_STATES or (wanted.is_gone and job.state == "succeeded"):
            # The same artifact, but the model or the data set may lie elsewhere now, and another job may extract it.
            job.request = wanted.request.model_dump(mode="json")
            job.queue = self._queue(wanted)
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
        self._steps.append(Step(job, status, wanted, needs))
        return job

    def enter(self, study_id: int) -> None:
        """Enter the missing jobs and the study's links to all of them; sets `jobs` and `to_notify`."""
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
        self.to_notify = queued + [job.id for job in self._hurried if job.state == "queued"]
        self.jobs = [step.planned() for step in self._steps]

    def _link(self, study_id: int) -> None:
        """Link the study to the jobs of the steps; other jobs may make some artifacts of an earlier submit now."""
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
