"""Renaming and removing data sets: what goes, what stays, and what is refused."""

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.pipeline.in_process import TINY_SAE, run_jobs
from tests.pipeline.stages.two_datasets import CLASSES, DRAWN, OTHER, listed, request_of
from tests.pipeline.upkeep.collecting import garbage, objects
from tests.small import all_results, bare_scoring, link_classes, quick_scoring, register, small_request
from tests.waiting import rows_of

from hsae.catalog import Analysis, Dataset, Job, Study, transaction
from hsae.errors import ServiceError, UserError
from hsae.pipeline.control import datasets as dataset_changes
from hsae.pipeline.control.datasets import remove_dataset, rename_dataset
from hsae.pipeline.inputs.dataset_names import check_name, find_dataset
from hsae.pipeline.kinds.artifact import artifact_key
from hsae.pipeline.kinds.registry import registered
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.pipeline.planning.submit import submit

UNCONTROLLED = quick_scoring(n_shuffles=0, controls=())
"""Scores of the SAE alone, by the embeddings of the last layer: two activation sets."""


def names(service):
    return [row["name"] for row in rows_of(service, "SELECT name FROM dataset ORDER BY id")]


def plan_of(service, name):
    return submit(
        small_request(name, layers=(1,), saes=(TINY_SAE,), scoring=UNCONTROLLED), service.settings, service.sessions
    )


def test_a_removed_data_set_leaves_nothing(service):
    first, _ = register(service, "first", link_classes(service.folder / "a", 2))
    kept = objects(service)
    rows = {
        table: rows_of(service, f"SELECT * FROM {table} ORDER BY 1, 2")
        for table in ("dataset", "dataset_class", "dataset_node")
    }
    register(service, "second", link_classes(service.folder / "b", 3))
    removed = remove_dataset(service.sessions, service.store, "second")
    assert (removed.name, removed.n_objects, removed.was_default, removed.default) == ("second", 2, False, "first")
    assert objects(service) == kept
    assert {table: rows_of(service, f"SELECT * FROM {table} ORDER BY 1, 2") for table in rows} == rows
    assert garbage(service) == set()
    again, new = register(service, "second", link_classes(service.folder / "b", 3))
    assert new
    assert again.id != first.id
    removed = remove_dataset(service.sessions, service.store, "first")
    assert (removed.was_default, removed.default) == (True, "second")
    assert remove_dataset(service.sessions, service.store, "second").default is None
    assert objects(service) == set()


def test_what_another_data_set_shares_stays(service):
    """The same images under two names, and other images of the same classes."""
    folder = link_classes(service.folder / "a", 2)
    register(service, "one", folder)
    kept = objects(service)
    register(service, "two", folder)
    assert remove_dataset(service.sessions, service.store, "two").n_objects == 0
    assert objects(service) == kept
    other = service.folder / "fewer"
    for name in sorted(path.name for path in folder.iterdir()):
        (other / name).mkdir(parents=True)
        image = sorted((folder / name).iterdir())[0]
        (other / name / image.name).symlink_to(image)
    register(service, "fewer", other)
    assert remove_dataset(service.sessions, service.store, "fewer").n_objects == 1  # its listing
    assert objects(service) == kept


def test_a_data_set_with_results_stays_whole(service):
    folder = link_classes(service.folder, 2)
    register(service, "small", folder)
    plan = plan_of(service, "small")
    assert set(run_jobs(service, plan)) == {"succeeded"}
    before, results = objects(service), all_results(service)
    with pytest.raises(UserError) as refused:
        remove_dataset(service.sessions, service.store, "small")
    n_jobs = sum(job.kind != "train" for job in plan.jobs)  # whose request names the data set
    assert str(refused.value) == (
        f"data set small stays, for results belong to it: study 1, {n_jobs} jobs, 2 activation sets, 1 class probe, 1"
        " analysis, 1 comparison; to free its name, use `hsae-admin dataset rename small NEW`"
    )
    assert objects(service) == before
    assert all_results(service) == results

    # The same images under another name share all that, and a study that asked for that name alone.
    register(service, "twin", folder)
    remove_dataset(service.sessions, service.store, "twin")
    register(service, "twin", folder)
    assert {job.status for job in plan_of(service, "twin").jobs} == {"reused"}
    with pytest.raises(UserError, match=r"data set twin stays, .*stud"):
        remove_dataset(service.sessions, service.store, "twin")
    assert objects(service) == before
    assert garbage(service) == set()


def test_a_data_set_whose_jobs_have_not_begun_is_in_use(service):
    register(service, "small", link_classes(service.folder, 2))
    n_jobs = sum(job.kind != "train" for job in plan_of(service, "small").jobs)
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE job SET state = 'cancelled'"))
    with pytest.raises(UserError, match=f"study 1, {n_jobs} jobs, 2 activation sets"):
        remove_dataset(service.sessions, service.store, "small")
    assert names(service) == ["small"]


class NoteRequest(StageRequest):
    """A note about a data set."""

    @property
    def key(self) -> str:
        return artifact_key("note", 1, {})


class OwnBase(DeclarativeBase):
    """Keeps the table out of the catalog's schema."""


class Note(OwnBase):
    """The table of a stage that no other file knows of."""

    __tablename__ = "data_set_note"

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int]


class NoteStage(Stage[NoteRequest]):
    """A stage whose rows name a data set."""

    kind = "note"
    request = NoteRequest
    queue = "cpu"
    unit = "notes"
    code = f"{__name__}:no_code"
    table = Note

    def ask(self, asked: Asked) -> NoteRequest:
        return NoteRequest()

    def title(self, asked: Asked) -> str:
        return "note"


def test_the_rows_of_a_new_stage_keep_a_data_set(service):
    dataset, _ = register(service, "small", link_classes(service.folder, 2))
    with transaction(service.sessions) as session:
        session.execute(
            text("CREATE TABLE data_set_note (id serial PRIMARY KEY, dataset_id integer NOT NULL REFERENCES dataset)")
        )
        session.execute(text("INSERT INTO data_set_note (dataset_id) VALUES (:id)"), {"id": dataset.id})
    with registered(NoteStage()), pytest.raises(UserError, match="results belong to it: 1 data set note;"):
        remove_dataset(service.sessions, service.store, "small")
    assert names(service) == ["small"]


def test_objects_that_cannot_be_deleted_are_left_to_gc(service, monkeypatch):
    register(service, "small", link_classes(service.folder, 2))
    stored = objects(service)

    def refuse(*_, **__):
        raise ServiceError("the S3 server is away")

    monkeypatch.setattr(dataset_changes, "collect", refuse)
    removed = remove_dataset(service.sessions, service.store, "small")
    assert removed.not_deleted == "the S3 server is away"
    assert names(service) == []
    assert garbage(service) == stored


def test_a_renamed_data_set_keeps_its_results(service):
    folder = link_classes(service.folder, 2)
    register(service, "small", folder)
    plan = plan_of(service, "small")
    assert set(run_jobs(service, plan)) == {"succeeded"}
    before, results = objects(service), all_results(service)
    assert rename_dataset(service.sessions, "small", "birds.v1.0") == ("small", "birds.v1.0")
    assert names(service) == ["birds.v1.0"]
    assert (objects(service), all_results(service)) == (before, results)
    with transaction(service.sessions) as session:
        assert {study.request["dataset"] for study in session.scalars(select(Study))} == {"birds.v1.0"}
    assert {job.status for job in plan_of(service, "birds.v1.0").jobs} == {"reused"}
    assert {row["dataset"] for row in rows_of(service, "SELECT dataset FROM layer_progress")} == {"birds.v1.0"}
    with pytest.raises(UserError, match=r"no data set small.*registered: birds.v1.0"):
        plan_of(service, "small")
    other, new = register(service, "small", link_classes(service.folder / "other", 3))  # the name is free
    assert new
    with pytest.raises(UserError, match=rf"the name small is taken by a data set of {other.n_images} images"):
        rename_dataset(service.sessions, "birds.v1.0", "small")
    assert rename_dataset(service.sessions, "small", "small") == ("small", "small")


BAD_NAMES = {
    "": "it is blank",
    " ": "it is blank",
    "a/b": "it would be taken for a path",
    "a\\b": "it would be taken for a path",
    ".": "it would be taken for a path",
    "..": "it would be taken for a path",
    " a": "it begins or ends with a space",
    "a\nb": "it holds characters that cannot be printed",
    "a\udc80": "it holds characters that cannot be printed",
    "-a": "it would be taken for an option",
    "a" * 201: "it has 201 characters",
}


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_what_is_no_name(name):
    with pytest.raises(UserError, match="is no name for a data set") as refused:
        check_name(name)
    assert BAD_NAMES[name] in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["imagenet.v1.0", "a b", "猫", "100", "x" * 200, "train (2)"])
def test_what_is_a_name(name):
    assert check_name(name) == name


def test_the_same_rules_for_every_way_to_a_name(service):
    folder = link_classes(service.folder, 2)
    register(service, "cafe\u0301", folder)
    assert names(service) == ["caf\xe9"]  # kept in one form ...
    with transaction(service.sessions) as session:  # ... and found in both
        assert find_dataset(session, "caf\xe9").id == find_dataset(session, "cafe\u0301").id
        with pytest.raises(UserError, match=r"there is no data set cafe \(did you mean caf"):
            find_dataset(session, "cafe")
    for call in (
        lambda: register(service, "a/b", folder),
        lambda: rename_dataset(service.sessions, "caf\xe9", "a/b"),
    ):
        with pytest.raises(UserError, match="'a/b' is no name for a data set"):
            call()
    with transaction(service.sessions) as session:
        assert session.scalars(select(Dataset.name)).all() == ["caf\xe9"]


def test_a_data_set_whose_analysis_has_not_begun_is_in_use(make_service):
    service = make_service()
    register(service, "drawn", listed(service.folder / "drawn", DRAWN, CLASSES[:3]))
    register(service, "other", listed(service.folder / "other", OTHER, CLASSES[:3]))
    submit(request_of(scoring=bare_scoring()), service.settings, service.sessions)
    with transaction(service.sessions) as session:
        waiting = session.scalars(select(Job).where(Job.kind == "analyze")).one()
        assert waiting.request["apart"]["train_dataset"]["name"] == "drawn"
    with pytest.raises(UserError, match="data set other stays"):
        remove_dataset(service.sessions, service.store, "other")


def test_an_analysis_names_the_scored_data_set_as_it_is_called_now(make_service):
    """Also where the data set was renamed between the submit and the analysis; another one's name does not matter."""
    service = make_service()
    register(service, "drawn", listed(service.folder / "drawn", DRAWN, CLASSES[:3]))
    register(service, "other", listed(service.folder / "other", OTHER, CLASSES[:3]))
    plan = submit(request_of(scoring=bare_scoring()), service.settings, service.sessions)
    rename_dataset(service.sessions, "other", "elsewhere")
    kept = []

    def look(*_):
        """A rename waits for the analysis that is being written, and so sees its row."""
        with pytest.raises(OperationalError, match="could not obtain lock"), service.sessions.begin() as session:
            session.execute(text("SELECT FROM dataset WHERE name = 'elsewhere' FOR UPDATE NOWAIT"))
        kept.append("elsewhere")

    event.listen(Analysis, "before_insert", look)
    try:
        assert set(run_jobs(service, plan, "extract", "train", "analyze")) == {"succeeded"}
    finally:
        event.remove(Analysis, "before_insert", look)
    assert kept == ["elsewhere"]

    def named():
        (row,) = rows_of(service, "SELECT split ->> 'score_dataset' AS name FROM analysis")
        return row["name"]

    assert named() == "elsewhere"
    rename_dataset(service.sessions, "drawn", "trained")
    assert named() == "elsewhere"
    with transaction(service.sessions) as session:  # a name that is not up to date, and is that of other images now
        session.execute(text("UPDATE analysis SET split = jsonb_set(split, '{score_dataset}', '\"other\"')"))
    register(service, "other", link_classes(service.folder, 2))
    rename_dataset(service.sessions, "other", "third")
    assert named() == "other"
    rename_dataset(service.sessions, "elsewhere", "last")
    assert named() == "last"
