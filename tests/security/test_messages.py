"""What anybody can put into the broker's queues runs nothing but jobs that Postgres has queued."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest
from kombu.connection import Connection
from kombu.entity import Queue
from redis import Redis
from sqlalchemy import text
from tests.waiting import wait_for

from hsae.catalog import QUEUES, transaction
from hsae.pipeline.queue.notifier import RUN_JOB, Notification, Notifier, make_app

UNKNOWN_JOB = 987_654


class _Exploit:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def _publish(service, body: bytes, *, content_type: str, task: str = RUN_JOB, queue: str = QUEUES[0]) -> None:
    """Send a task's message, byte for byte, as Celery would."""
    number = str(uuid.uuid4())
    encoding = "binary" if "python" in content_type else "utf-8"
    with Connection(service.settings.broker_url.get_secret_value()) as connection:
        producer = connection.Producer()
        producer.publish(
            body,
            routing_key=queue,
            declare=[Queue(queue, routing_key=queue)],
            content_type=content_type,
            content_encoding=encoding,
            headers={"lang": "py", "task": task, "id": number, "root_id": number, "argsrepr": "", "kwargsrepr": ""},
            correlation_id=number,
        )


def _json(service, arguments: object, keywords: object = None, **options: str) -> None:
    body = json.dumps([arguments, keywords if keywords is not None else {}, {}]).encode()
    _publish(service, body, content_type="application/json", **options)


def _wait_for_log(service, words: str) -> None:
    wait_for(lambda: words in service.logs(), message=service.logs)


@pytest.fixture(scope="module")
def listening(make_service):
    """A service with one worker that is ready."""
    service = make_service()
    service.start_worker()
    _wait_for_log(service, "ready.")
    yield service
    service.stop_workers()


def _assert_still_works(service) -> None:
    """The worker takes the next message, and the catalog has no trace of what came before."""
    answer = f"job {UNKNOWN_JOB} is not queued: nothing to do"
    before = service.logs().count(answer)
    Notifier(service.settings).notify([Notification(UNKNOWN_JOB, QUEUES[0])])
    wait_for(lambda: service.logs().count(answer) > before, message=service.logs)
    assert service.workers[0].poll() is None
    with transaction(service.sessions) as session:
        for table in ("job", "job_event", "study"):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0


@pytest.mark.parametrize("pickling", ["pickle", "yaml"])
def test_a_message_that_carries_code_is_refused(listening, tmp_path, pickling):
    touched = tmp_path / "touched"
    if pickling == "pickle":
        import pickle

        body = pickle.dumps(([_Exploit(touched)], {}, {}))
        with pytest.raises(AttributeError):  # it works: unpickling makes the file, then finds no list of arguments
            pickle.loads(body)[0][0].path  # noqa: B018, S301
        assert touched.exists()
        touched.unlink()
        _publish(listening, body, content_type="application/x-python-serialize")
    else:
        body = f"!!python/object/apply:os.system ['touch {touched}']".encode()
        _publish(listening, body, content_type="application/x-yaml")
    _wait_for_log(listening, f"content of type {'pickle' if pickling == 'pickle' else 'yaml'}")
    _assert_still_works(listening)
    assert not touched.exists()


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        (["12"], {}),
        (["12; DROP TABLE job"], {}),
        ([{"job_id": 12}], {}),
        ([[1, 2]], {}),
        ([None], {}),
        ([True], {}),
        ([1.5], {}),
        ([-1], {}),
        ([0], {}),
        ([10**30], {}),
        ([], {}),
        ([1, 2, 3], {}),
        ([], {"job_id": "1"}),
        ([], {"settings": {"device": "cuda"}}),
        ("not a list", {}),
        ([1], "not a dictionary"),
    ],
    ids=repr,
)
def test_a_wrong_body_does_no_harm(listening, arguments, keywords):
    _json(listening, arguments, keywords)
    _assert_still_works(listening)


@pytest.mark.parametrize("task", ["os.system", "hsae.run_job ", "subprocess.run", "celery.nothing"])
def test_an_unknown_task_is_dropped(listening, task, tmp_path):
    _json(listening, [f"touch {tmp_path / 'touched'}"], task=task)
    _assert_still_works(listening)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("body", [b"{", b"[1, 2", b"no JSON at all", b"", b"null", b"[]", b"{}", b"7"])
def test_garbage_does_no_harm(listening, body):
    _publish(listening, body, content_type="application/json")
    _assert_still_works(listening)


def test_a_message_carries_the_jobs_id_and_nothing_else(service):
    Notifier(service.settings).notify([Notification(UNKNOWN_JOB, QUEUES[0])])
    with Redis.from_url(service.settings.broker_url.get_secret_value()) as broker:
        (name,) = broker.keys(f"{QUEUES[0]}*")
        (message,) = (json.loads(raw) for raw in broker.lrange(name, 0, -1))
    arguments, keywords, options = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == ([UNKNOWN_JOB], {})
    assert set(options.values()) == {None}
    assert message["headers"]["task"] == RUN_JOB
    assert message["headers"]["argsrepr"] == f"[{UNKNOWN_JOB}]"


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("train relu SAE x8 of cls, dinov2 layer 3", "_train-relu-SAE-x8-of-cls-dinov2-layer-3"),
        ("../../ \n<script> été.", "_script-ete"),
        ("犬", ""),
        ("a" * 500, "_" + "a" * 80),
    ],
)
def test_the_id_of_a_message_says_which_job_it_is_about(title, words):
    notification = Notification(12, QUEUES[0], kind="train", title=title)
    first, second = notification.task_id(), notification.task_id()
    assert re.fullmatch(rf"job-12{re.escape(words)}_[0-9a-f]{{8}}", first)
    assert first != second  # one that is revoked must not stop the next
    assert notification.task_name == "hsae.train"


def test_flower_shows_number_kind_and_title_of_a_job(listening, tmp_path):
    """By README's command; the page of tasks shows a task's name and id unless told otherwise."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "flower.log").open("wb") as log:
        flower = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "hsae_worker.app", "flower", "--address=127.0.0.1",
             f"--port={port}"],
            env={**os.environ, **listening.environment, "FLOWER_BASIC_AUTH": "me:secret"}, cwd=tmp_path,
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    notification = Notification(UNKNOWN_JOB, QUEUES[0], kind="train", title="train relu SAE of layer 3")
    tasks: dict[str, dict[str, object]] = {}

    def is_seen() -> bool:
        """Flower knows what happens while it listens: send messages until it has heard of a task from start to end.

        Of one that was sent before it listened it has the id alone.
        """
        Notifier(listening.settings).notify([notification])
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/tasks")
        request.add_header("Authorization", "Basic " + base64.b64encode(b"me:secret").decode())
        try:
            with urllib.request.urlopen(request, timeout=240) as response:  # noqa: S310 -- our own address
                heard = json.load(response)
        except OSError:  # it does not listen yet
            return False
        tasks.update({number: task for number, task in heard.items() if task["received"] and task["succeeded"]})
        return bool(tasks)

    try:
        wait_for(is_seen, message=(tmp_path / "flower.log").read_text)
    finally:
        flower.kill()
        flower.wait()
    number, task = next(iter(tasks.items()))
    assert re.fullmatch(rf"job-{UNKNOWN_JOB}_train-relu-SAE-of-layer-3_[0-9a-f]{{8}}", number)
    assert task["name"] == "hsae.train"
    assert task["args"] == f"[{UNKNOWN_JOB}]"


def test_json_is_all_that_either_end_accepts(service):
    app = make_app(service.settings)
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == app.conf.event_serializer == "json"
    assert set(app.control.mailbox.accept) == {"json"}
    assert app.conf.result_backend is None
    assert app.conf.task_acks_late is False  # a message is done with as soon as it is read
