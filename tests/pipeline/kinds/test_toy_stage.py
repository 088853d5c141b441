"""A stage that no other file knows of: request, descriptor and code, from a submit to its row, the commands and gc."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from click.testing import CliRunner
from pydantic import Field
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from tests.pipeline.default_plan import default_kinds
from tests.pipeline.in_process import TINY_SAE, job_id, run_jobs
from tests.small import bare_scoring, register_small, small_request

from hsae.catalog import ActivationSet, Job, Study, transaction
from hsae.cli.main import cli
from hsae.demo import backbone_folder
from hsae.errors import UserError
from hsae.frozen_model import FrozenModel
from hsae.pipeline.control.jobs import cancel, retry
from hsae.pipeline.execution.run import run_job
from hsae.pipeline.kinds.artifact import NamedObject, artifact_key
from hsae.pipeline.kinds.registry import registered
from hsae.pipeline.kinds.setting_labels import settings_label
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.pipeline.planning.study_file import read_spec
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.upkeep.garbage import collect, find_garbage
from hsae.pipeline.upkeep.integrity import find_lost, named_objects
from hsae.store.keys import CHECKSUM, artifact_prefix, fill_checksum


class CountSettings(FrozenModel):
    """Settings that no other stage has."""

    every: int = Field(default=1, ge=1, description="count every n-th row")


class CountRequest(StageRequest):
    """How many rows an activation set has."""

    activation_key: str
    count: CountSettings

    @property
    def key(self) -> str:
        content = {"activations": self.activation_key, "count": self.count.model_dump(mode="json")}
        return artifact_key("count", 1, content)


class CountStage(Stage[CountRequest]):
    """One per layer; the job's row names its object."""

    kind = "count"
    request = CountRequest
    queue = "cpu"
    unit = "sets"
    code = f"{__name__}:count"
    after = ("extract",)
    per = "layer"
    folder = "counts"
    settings = CountSettings

    def ask(self, asked: Asked) -> CountRequest:
        return CountRequest(activation_key=asked.one_key("extract"), count=asked.settings(CountSettings))

    def title(self, asked: Asked) -> str:
        return f"count the rows of layer {asked.layers[0]}{settings_label(asked.settings(CountSettings))}"

    def needs(self, request: CountRequest) -> tuple[str, ...]:
        return (request.activation_key,)

    def named_objects(self, session: Session, key: str | None = None) -> Iterator[NamedObject]:
        done = select(Job).where(Job.kind == self.kind, Job.state == "succeeded")
        for job in session.scalars(done if key is None else done.where(Job.key == key)):
            sha256 = job.result["sha256"]
            yield NamedObject(fill_checksum(_object_key(job.key), sha256), sha256, job.title, job.id)


COUNT = CountStage()


def _object_key(key: str) -> str:
    return artifact_prefix("counts", key) + f"rows-{CHECKSUM}.json"


def count(request, context):
    """The code of the stage."""
    with context.reading() as session:
        n_rows = session.scalars(select(ActivationSet.n_rows).where(ActivationSet.key == request.activation_key)).one()
    n_rows = len(range(0, n_rows, request.count.every))
    stored = context.store.put(_object_key(request.key), json.dumps({"n_rows": n_rows}).encode())
    context.progress(1, 1, COUNT.unit)
    return {"n_rows": n_rows, "sha256": stored.sha256}


def ask_for_small(service):
    request = small_request(layers=(1, 3), saes=(TINY_SAE,), scoring=bare_scoring())
    return submit(request, service.settings, service.sessions)


@pytest.fixture
def admin(service, monkeypatch):
    """Runs `hsae-admin ARGUMENTS`; returns what it prints."""
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture
def with_toy(service):
    """The service knows the toy stage, and has a small data set."""
    register_small(service, n_classes=2)
    with registered(COUNT):
        yield service


def test_a_toy_stage_from_submit_to_sql_commands_and_garbage_collection(with_toy, admin):
    service = with_toy
    plan = ask_for_small(service)
    kinds = [job.kind for job in plan.jobs]
    assert kinds == default_kinds(n_layers=2)
    assert kinds.count("count") == 2
    assert [job.title for job in plan.jobs if job.kind == "count"] == [f"count the rows of layer {i}" for i in (1, 3)]
    assert run_jobs(service, plan, "extract", "count") == ["succeeded"] * 3

    with transaction(service.sessions) as session:
        rows = session.execute(text("SELECT state, queue, result, progress_unit FROM job WHERE kind = 'count'")).all()
        needed = session.scalars(
            text("SELECT DISTINCT depends_on_id FROM job_dependency d JOIN job j ON j.id = d.job_id"
                 " WHERE j.kind = 'count'")
        ).all()  # fmt: skip
        (n_rows,) = set(session.scalars(select(ActivationSet.n_rows)))
    assert needed == [job_id(plan, "extract")]
    assert {(row.state, row.queue, row.progress_unit) for row in rows} == {("succeeded", "cpu", "sets")}
    assert [row.result["n_rows"] for row in rows] == [n_rows, n_rows]

    first, second = (job.id for job in plan.jobs if job.kind == "count")
    assert "count the rows of layer 3" in admin("jobs", "show", second)
    listed = {row["id"]: row for row in json.loads(admin("jobs", "list", "--json"))}
    assert (listed[first]["title"], listed[first]["state"]) == ("count the rows of layer 1", "succeeded")
    assert {job.status for job in ask_for_small(service).jobs if job.kind == "count"} == {"reused"}

    with transaction(service.sessions) as session:
        named = [found for found in named_objects(session) if found.key.startswith("counts/")]
    assert [found.job_id for found in named] == [first, second]
    assert find_lost(service.store, named) == []
    orphan = f"counts/{'ab' * 32}/rows-{'0' * 16}.json"
    service.store.put(orphan, b"{}")
    found = list(find_garbage(service.sessions, service.store, min_age=timedelta(0)))
    assert [(folder.kind, [listed.key for listed in folder.objects]) for folder in found] == [("counts", [orphan])]
    collect(service.sessions, service.store, found, min_age=timedelta(0))
    assert set(service.store.list("counts/")) == {each.key for each in named}


def study_file(path, text: str):
    path.write_text(f"layers: 1\nsaes: [{{kind: topk, k: 4, expansion: 2}}]\nmodel: {backbone_folder()}\n{text}")
    return path


def test_the_settings_of_a_toy_stage_go_from_a_study_file_to_its_result(with_toy, admin, tmp_path):
    service = with_toy
    path = study_file(tmp_path / "thirds.yaml", "split: none\ncount: {every: 3}\n")
    plan = submit(read_spec(path).request(service.settings, folder=tmp_path), service.settings, service.sessions)
    (job,) = (job for job in plan.jobs if job.kind == "count")
    assert job.title == "count the rows of layer 1 (every=3)"
    assert set(run_jobs(service, plan, "extract", "count")) == {"succeeded"}
    with transaction(service.sessions) as session:
        (n_rows,) = set(session.scalars(select(ActivationSet.n_rows).where(ActivationSet.n_rows.is_not(None))))
        assert session.get_one(Job, job.id).result["n_rows"] == (n_rows + 2) // 3
        assert session.get_one(Study, plan.study_id).request["own"] == {"count": {"every": 3}}
    # What is shown of the request is a study file, too.
    shown = tmp_path / "shown.yaml"
    shown.write_text(admin("studies", "show", plan.study_id).split("request\n")[1].split("\n\n")[0])
    again = read_spec(shown).request(service.settings, folder=tmp_path)
    assert again.own == {"count": CountSettings(every=3)}
    assert submit(again, service.settings, service.sessions).study_id == plan.study_id
    # Other settings are another study and another job, and the defaults those that a request without them has.
    path = study_file(tmp_path / "all.yaml", "split: none\ncount: {every: 1}\n")
    given = read_spec(path).request(service.settings, folder=tmp_path)
    every = submit(given, service.settings, service.sessions)
    assert every.study_id != plan.study_id
    plain = submit(given.model_copy(update={"own": {}}), service.settings, service.sessions)
    assert plain.study_id == every.study_id
    assert {job.key for job in plain.jobs} == {job.key for job in every.jobs}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count: {evry: 3}", "count.evry is no field of a study: did you mean every?"),
        ("count: {every: 0}", "count.every: 0 is not valid: input should be greater than or equal to 1"),
        ("cout: {every: 1}", "cout is no field of a study: did you mean count?"),
    ],
)
def test_a_mistake_in_the_settings_of_a_toy_stage_is_one_line(tmp_path, text, message):
    path = study_file(tmp_path / "study.yaml", text)
    with registered(COUNT), pytest.raises(UserError) as refused:
        read_spec(path)
    assert str(refused.value) == f"{path}: {message}"


def test_a_toy_stage_is_cancelled_and_tried_again_like_every_other(with_toy):
    service = with_toy
    plan = ask_for_small(service)
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    first = next(job.id for job in plan.jobs if job.kind == "count")
    stored = service.store.put(_object_key(plan_key(plan, first)), b"half-made").key
    assert cancel(service.sessions, service.store, [first], "me").job_ids == (first,)
    assert stored not in service.store.list("counts/")
    with transaction(service.sessions) as session:
        assert retry(session, [first], "me", service.settings).job_ids == (first,)
    assert run_job(first, service.settings, "test") == "succeeded"


def plan_key(plan, number: int) -> str:
    """The key of a plan's job."""
    return next(job.key for job in plan.jobs if job.id == number)


def test_a_worker_that_does_not_know_a_stage_leaves_its_job_to_others(service):
    with transaction(service.sessions) as session:
        job = Job(key="1", kind="count", queue="cpu", title="count", request={}, state="queued", max_attempts=3)
        session.add(job)
        session.flush()
        number = job.id
    assert run_job(number, service.settings, "test") == "queued again"
    with transaction(service.sessions) as session:
        assert "upgrade the worker" in session.scalars(select(Job.error).where(Job.id == number)).one()
