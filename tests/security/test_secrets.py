"""No secret and no presigned URL is kept or shown anywhere that others read: logs, catalog, broker, objects, errors."""

import contextlib
import itertools
import os
import subprocess
import sys
import threading

import pytest
import redis
from minio import Minio
from sqlalchemy import inspect, make_url, text
from tests.small import bare_scoring, link_classes, register, register_small, small_request, wait_until_done
from tests.waiting import wait_for

from hsae.catalog import transaction
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.queue.notifier import Notifier
from hsae.sae.config import SaeConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PRESIGNED = "X-Amz-Signature"


def _secrets(service) -> dict[str, str]:
    settings = service.settings
    return {
        "database password": str(make_url(settings.database_url.get_secret_value()).password),
        "broker password": str(make_url(settings.broker_url.get_secret_value()).password),
        "S3 secret key": settings.s3_secret_key.get_secret_value(),
        "presigned URL": PRESIGNED,
    }


def _start_worker_at_debug(service) -> None:
    log = (service.folder / "worker-debug.log").open("wb")
    service.workers.append(
        subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "hsae_worker.app", "worker", "--loglevel", "DEBUG",
             "--without-mingle", "--without-gossip", "--hostname", "debug@%h", "--queues", "gpu,cpu"],
            env={**os.environ, **service.environment},
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=service.folder,
        )
    )  # fmt: skip
    log.close()


@pytest.fixture(scope="module")
def studied(make_service):
    """A study that ran, one job of which failed, with a worker at DEBUG; `commands` is what the broker was told."""
    service = make_service(max_attempts=1)
    register_small(service, n_classes=6)
    commands: list[str] = []
    ended = threading.Event()

    def listen() -> None:
        with (
            contextlib.suppress(redis.ConnectionError),  # the server stops at the end of the session
            redis.Redis.from_url(service.settings.broker_url.get_secret_value()) as broker,
            broker.monitor() as monitor,
        ):
            for command in monitor.listen():
                commands.append(str(command))
                if ended.is_set():
                    return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    _start_worker_at_debug(service)
    saes = (SaeConfig(kind="topk", k=8, expansion=2, n_steps=40),)
    plan = submit(small_request(layers=(1,), saes=saes, scoring=bare_scoring()), service.settings, service.sessions)
    Notifier(service.settings).notify(plan.to_notify)
    assert {job["state"] for job in wait_until_done(service, plan.study_id)} == {"succeeded"}
    # A data set whose images have changed since: its extraction fails, and the failure is recorded.
    folder = service.folder / "changed"
    link_classes(folder, 2)
    register(service, "changed", folder / "images")
    for link in list((folder / "images").iterdir()):
        link.unlink()
    failing = submit(small_request("changed", layers=(1,), saes=saes), service.settings, service.sessions)
    Notifier(service.settings).notify(failing.to_notify)
    assert "failed" in {job["state"] for job in wait_until_done(service, failing.study_id)}
    yield service, commands
    ended.set()
    service.stop_workers()


def _assert_clean(service, where: str, content: str) -> None:
    shown = [name for name, secret in _secrets(service).items() if secret in content]
    assert shown == [], f"{where} holds the {shown}"


def test_logs_of_workers_and_servers(studied):
    service, _ = studied
    assert "DEBUG" in service.logs()
    _assert_clean(service, "a worker's log", service.logs())


def test_every_row_of_the_catalog(studied):
    service, _ = studied
    inspector = inspect(service.sessions.kw["bind"])
    with transaction(service.sessions) as session:
        for table in inspector.get_table_names():
            rows = session.scalars(text(f'SELECT t::text FROM "{table}" t')).all()
            _assert_clean(service, f"table {table}", "\n".join(rows))
            if table in ("job", "job_event", "study"):
                assert rows


def test_every_object_in_the_bucket(studied):
    service, _ = studied
    settings = service.settings
    client = Minio(
        settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key.get_secret_value(), secure=False
    )
    names = [item.object_name for item in client.list_objects(settings.s3_bucket, recursive=True)]
    assert names
    for name in names:
        answer = client.get_object(settings.s3_bucket, name)
        _assert_clean(service, f"object {name}", answer.read().decode("latin-1"))
        answer.close()


def test_everything_the_broker_was_told(studied):
    service, commands = studied
    text_of_all = "\n".join(commands)
    assert "hsae.run_job" in text_of_all
    _assert_clean(service, "a command to the broker", text_of_all)


def test_representations(studied):
    service, _ = studied
    shown = [repr(service.settings), str(service.settings), repr(service.store), repr(service.sessions.kw["bind"])]
    _assert_clean(service, "a representation", "\n".join(shown))


WRONG = "wr0ng-Secret-of-a-Test"
_COMMANDS = [("doctor",), ("jobs", "list"), ("submit", "--layer", "1"), ("db", "upgrade"), ("db", "reader")]
_VARIABLES = ["HSAE_DATABASE_URL", "HSAE_BROKER_URL", "HSAE_S3_SECRET_KEY"]
_REFUSALS = {
    "HSAE_DATABASE_URL": "refused the credentials",
    "HSAE_BROKER_URL": "invalid username-password pair",
    "HSAE_S3_SECRET_KEY": "SignatureDoesNotMatch",
}


def _with_wrong_secret(service, variable: str) -> str:
    if variable == "HSAE_S3_SECRET_KEY":
        return WRONG
    return make_url(service.environment[variable]).set(password=WRONG).render_as_string(hide_password=False)


@pytest.mark.parametrize(("command", "variable"), list(itertools.product(_COMMANDS, _VARIABLES)), ids=str)
def test_failing_commands(studied, admin, command, variable):
    service, _ = studied
    done = admin(service, *command, **{variable: _with_wrong_secret(service, variable)})
    _assert_clean(service, "the output", done.output)
    assert WRONG not in done.output
    if command == ("doctor",):
        assert done.exit_code == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HSAE_DATABASE_URL", f"postgresql//hsae:{WRONG}@host/db"),
        ("HSAE_DATABASE_URL", f"postgresql://hsae:{WRONG}@host:port/db"),
        ("HSAE_DATABASE_URL", f"mysql://hsae:{WRONG}@host/db"),
        ("HSAE_DATABASE_URL", f"postgresql://hsae:{WRONG}@127.0.0.1:1/db"),
        ("HSAE_DATABASE_URL", f"postgresql://hsae:{WRONG}@no-such-host.invalid/db"),
        ("HSAE_BROKER_URL", f"redis//:{WRONG}@host"),
        ("HSAE_BROKER_URL", f"redis://:{WRONG}@host:port/0"),
        ("HSAE_BROKER_URL", f"redis://:{WRONG}@127.0.0.1:1/0"),
        ("HSAE_BROKER_URL", f"redis://:{WRONG}@no-such-host.invalid/0"),
        ("HSAE_BROKER_URL", f"amqp://:{WRONG}@host/0"),
    ],
)
def test_urls_that_cannot_be(studied, admin, variable, value):
    service, _ = studied
    done = admin(service, "doctor", **{variable: value})
    assert done.exit_code == 1
    assert WRONG not in done.output


@pytest.mark.parametrize("variable", _VARIABLES)
def test_a_worker_with_wrong_credentials(make_service, variable):
    service = make_service()
    service.environment[variable] = _with_wrong_secret(service, variable)
    _start_worker_at_debug(service)
    register_small(service, n_classes=2)
    plan = submit(small_request(layers=(1,)), service.settings, service.sessions)
    Notifier(service.settings).notify(plan.to_notify)
    # It says so, and lives on.
    wait_for(lambda: _REFUSALS[variable] in service.logs(), message=service.logs)
    assert service.workers[0].poll() is None
    service.stop_workers()
    _assert_clean(service, "a worker's log", service.logs())
    assert WRONG not in service.logs()
    with transaction(service.sessions) as session:
        rows = session.scalars(text("SELECT t::text FROM job t UNION ALL SELECT t::text FROM job_event t")).all()
    assert WRONG not in "\n".join(rows)
