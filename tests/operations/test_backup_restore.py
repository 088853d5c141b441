"""What docs/backup.md says: dump the database, then copy the bucket; both together are the service again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from sqlalchemy import make_url, text
from tests.pipeline import in_process
from tests.small import all_results, register_small, small_request, submit_small, wait_until_done
from tests.waiting import let_leases_expire, rows_of, wait_until_running, writers_stopped

from hsae.catalog import transaction
from hsae.catalog.server import reader_role as reader
from hsae.catalog.server.schema_version import require_current_schema
from hsae.embedded import Stack
from hsae.embedded.binaries import postgres_binary
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COPY_BUCKET = Path(__file__).parents[2] / "deploy" / "copy-bucket"
SMALL = (SaeConfig(kind="topk", k=8, expansion=2, n_steps=100),)
OTHER = (SaeConfig(kind="topk", k=4, expansion=2, n_steps=60),)


def _postgres_tool(service, tool: str, *arguments: object) -> None:
    """Run one of Postgres' client programs on the service's database; the password is in no argument."""
    url = make_url(service.settings.database_url.get_secret_value())
    environment = {
        **os.environ,
        "PGHOST": str(url.host), "PGPORT": str(url.port), "PGUSER": str(url.username), "PGPASSWORD": str(url.password),
    }  # fmt: skip
    subprocess.run(
        [str(postgres_binary(tool)), "--dbname", str(url.database), *map(str, arguments)], env=environment, check=True
    )


def dump(service, file: Path) -> None:
    _postgres_tool(service, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", "--file", file)


def restore(service, file: Path) -> None:
    _postgres_tool(service, "pg_restore", "--exit-on-error", "--no-owner", "--no-privileges", file)


def copy_bucket(service, direction: str, folder: Path) -> str:
    """Run deploy/copy-bucket as docs/backup.md says."""
    done = subprocess.run(
        [sys.executable, str(COPY_BUCKET), direction, str(folder)],
        env={**os.environ, **service.environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _admin(service, *arguments: str) -> str:
    from hsae.cli.main import cli

    done = CliRunner(env=service.environment).invoke(cli, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def _objects(service) -> set[str]:
    """Every object but jobs' logs, which tell how the work went and not what came of it."""
    return {key for key in service.store.list("") if not key.startswith("logs/")}


def _states(service, study_id: int) -> set[str]:
    return {job["state"] for job in wait_until_done(service, study_id)}


def _run(service, saes: tuple[SaeConfig, ...]) -> set[str]:
    plan = submit(small_request(layers=(1,), saes=saes), service.settings, service.sessions)
    return {job["state"] for job in in_process.run_study(service, plan.study_id)}


@pytest.fixture(scope="module")
def original(make_service):
    """A service that has finished a study."""
    service = make_service()
    register_small(service, n_classes=12)
    assert _run(service, SMALL) == {"succeeded"}
    return service


@pytest.fixture(scope="module")
def backup(original, tmp_path_factory):
    """The folder with `database.dump` and `bucket/`."""
    folder = tmp_path_factory.mktemp("backup")
    dump(original, folder / "database.dump")
    copy_bucket(original, "download", folder / "bucket")
    return folder


@pytest.fixture(scope="module")
def restored(make_service, backup):
    """The backup in an empty database and an empty bucket."""
    service = make_service(migrate=False, reader_password=SecretStr("a-readers-password"))
    restore(service, backup / "database.dump")
    copy_bucket(service, "upload", backup / "bucket")
    return service


def test_everything_is_there_again(original, restored):
    require_current_schema(restored.sessions.kw["bind"])
    assert all_results(restored) == all_results(original)
    assert _objects(restored) == _objects(original)
    layers = json.loads(_admin(restored, "results", "layers", "--json"))
    before = json.loads(_admin(original, "results", "layers", "--json"))
    assert layers
    for now, then in zip(layers, before, strict=True):
        assert now.keys() == then.keys()
        for name, value in then.items():
            # Means over draws are summed by the database, in the order in which the rows lie.
            assert now[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), name
    assert "Nothing to delete" in _admin(restored, "gc", "--yes", "--min-age", "0")


def test_a_second_copy_takes_only_what_is_new(original, backup, tmp_path):
    folder = tmp_path / "bucket"
    subprocess.run(["cp", "--archive", backup / "bucket", folder], check=True)
    (cut_short, gone, *_) = sorted(path for path in folder.rglob("*.safetensors"))
    cut_short.write_bytes(cut_short.read_bytes()[:-1])
    gone.unlink()
    assert copy_bucket(original, "download", folder) == "2 objects copied.\n"
    for path in (cut_short, gone):
        assert path.read_bytes() == (backup / "bucket" / path.relative_to(folder)).read_bytes()


def test_the_same_request_reuses_everything(original, restored):
    plan = submit(small_request(layers=(1,), saes=SMALL), restored.settings, restored.sessions)
    assert {job.status for job in plan.jobs} == {"reused"}
    assert plan.to_notify == ()


def test_readers_are_let_in_again(restored):
    url = reader.admit(restored.sessions.kw["bind"], restored.settings)
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM node_score").fetchone() == (True,)


def test_an_object_that_the_copy_lacks_is_found_and_made_again(original, restored):
    (shard, *_) = sorted(key for key in restored.store.list("activations/") if "shard-" in key)
    restored.store.delete(shard)
    assert _run(restored, OTHER) == {"succeeded"}
    again = rows_of(restored, "SELECT message FROM job_event WHERE reason = 'requeued'")
    assert any(shard in row["message"] for row in again), again
    assert restored.store.get(shard) == original.store.get(shard)
    kept = {repr(row) for rows in all_results(original).values() for row in rows}
    assert kept <= {repr(row) for rows in all_results(restored).values() for row in rows}


def test_a_backup_taken_while_jobs_run_is_finished_by_the_restored_service(make_service, tmp_path):
    busy = make_service(checkpoint_seconds=0.2)
    register_small(busy, n_classes=12)
    with writers_stopped(busy, "sae"):  # the training that is seen still runs in the dump
        busy.start_worker()
        plan = submit_small(busy)
        wait_until_running(busy, "train")
        dump(busy, tmp_path / "database.dump")
    # The copy goes on for so long that everything is finished meanwhile.
    assert _states(busy, plan.study_id) == {"succeeded"}
    copy_bucket(busy, "download", tmp_path / "bucket")

    service = make_service(migrate=False)
    restore(service, tmp_path / "database.dump")
    copy_bucket(service, "upload", tmp_path / "bucket")
    with transaction(service.sessions) as session:
        assert session.scalars(text("SELECT count(*) FROM job WHERE state = 'running'")).one() == 1
    let_leases_expire(service)
    service.start_worker()
    assert _states(service, plan.study_id) == {"succeeded"}
    service.stop_workers()
    busy.stop_workers()
    assert all_results(service) == all_results(busy)
    _admin(service, "gc", "--yes", "--min-age", "0")
    _admin(busy, "gc", "--yes", "--min-age", "0")
    assert _objects(service) == _objects(busy)


def test_the_private_stacks_folder_is_a_backup_while_it_is_down(tmp_path):
    home, copy = tmp_path / "home", tmp_path / "elsewhere"
    with Stack(home) as stack, psycopg.connect(stack.info().database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    subprocess.run(["cp", "--archive", home, copy], check=True)
    with Stack(copy) as stack, psycopg.connect(stack.info().database_url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
