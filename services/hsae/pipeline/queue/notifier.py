"""Notifies workers through the broker: a message contains only a job's id, and may be lost or duplicated without harm.

The headers also name the job for programs that watch Celery's events, such as Flower; no worker reads them.
"""

import re
import unicodedata
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

from hsae.catalog import MAX_PRIORITY, QUEUES
from hsae.errors import ServiceError, UserError
from hsae.server_urls import encoding_hint
from hsae.settings import Settings

# The client's own errors get through where the broker dies in the middle of a call.
UNREACHABLE = (OperationalError, RedisError, OSError)
_CONNECT_SECONDS = 5
_SILENCE_SECONDS = 30
_CHECK_SECONDS = _CONNECT_SECONDS + 1  # one whole attempt to connect
_PING_SECONDS = 2.0
RUN_JOB = "hsae.run_job"
_MAX_TITLE = 80


@dataclass(frozen=True, slots=True)
class Notification:
    """The job of a message.

    Attributes:
        job_id: the job's number.
        queue: the queue of its workers.
        priority: 0 to 9, higher runs first.
        kind: the job's kind, for people.
        title: the job's title, for people.
    """

    job_id: int
    queue: str
    priority: int = 0
    kind: str = "run_job"
    title: str = ""

    @property
    def task_name(self) -> str:
        """The task's name in Celery's events: by kind, because metrics count tasks by name."""
        return f"hsae.{self.kind}"

    def task_id(self) -> str:
        """A new id for one message, which names its job: `job-12_SAE-of-layer-3_4f0c1a2b`.

        Flower uses it in URLs, so few characters are allowed. A second message about the job has another id, because an
        id that was revoked in Flower stays revoked.
        """
        plain = unicodedata.normalize("NFKD", self.title).encode("ascii", "ignore").decode()
        words = re.sub(r"[^A-Za-z0-9.]+", "-", plain).strip("-.")[:_MAX_TITLE]
        return "_".join(part for part in (f"job-{self.job_id}", words, uuid.uuid4().hex[:8]) if part)


def make_app(settings: Settings) -> Celery:
    """The Celery application that both ends share: JSON only, no result backend, early acknowledgement.

    Raises:
        UserError: no broker is set.
    """
    if settings.broker_url is None:
        raise UserError(
            "no broker is set: start a private stack with `hsae-admin up`, or set HSAE_BROKER_URL (redis://host:port/0)"
        )
    app = Celery("hsae", broker=_redis_url(settings.broker_url.get_secret_value()))
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=QUEUES[0],
        # The lease in Postgres decides who runs a job, so a message is done with as soon as it is read.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "socket_connect_timeout": _CONNECT_SECONDS,
            "socket_timeout": _SILENCE_SECONDS,
            "priority_steps": list(range(MAX_PRIORITY + 1)),  # one list each, so that every priority counts
        },
    )
    return app


def _redis_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and (parts.port or 1) > 0
        int(parts.path.strip("/") or 0)
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment:
        raise UserError(f"HSAE_BROKER_URL is no Redis URL: write redis://:password@host:port/0{encoding_hint(url)}")
    return url


def broker_away(error: Exception, settings: Settings) -> ServiceError:
    """The error of a broker that does not answer, with what to do."""
    return ServiceError(f"the broker cannot be used ({error}): {settings.remedy_if_away('broker_url')}")


def queue_length(connection: Any, queue: str) -> int:
    """Number of messages of a queue that no worker has taken yet; 0 for a queue that no message has made yet.

    Args:
        connection: kombu's, which has no types.
        queue: its name.
    """
    try:
        return int(connection.default_channel.queue_declare(queue=queue, passive=True).message_count)
    except ChannelError:
        return 0


class Notifier:
    """Notifies workers of jobs that may start now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app = make_app(settings)

    def check(self) -> None:
        """Check that the broker answers.

        Raises:
            ServiceError: it does not.
        """
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=_CHECK_SECONDS)
        except UNREACHABLE as error:
            raise broker_away(error, self._settings) from error

    def workers(self) -> list[str]:
        """Names of the workers that answer a ping."""
        self.check()
        return sorted(name for reply in self._app.control.ping(timeout=_PING_SECONDS) or [] for name in reply)

    def n_messages(self, queue: str) -> int:
        """Number of messages of a queue that no worker has taken yet.

        Raises:
            ServiceError: the broker cannot be reached.
        """
        try:
            with self._app.connection_for_read() as connection:
                return queue_length(connection, queue)
        except UNREACHABLE as error:
            raise broker_away(error, self._settings) from error

    def notify(self, notifications: Iterable[Notification]) -> None:
        """Send one message per job.

        Raises:
            ServiceError: the broker cannot be reached; the jobs stay queued in the database, and a worker's reconciler
                sends their messages again.
        """
        try:
            for notification in notifications:
                self._app.send_task(
                    RUN_JOB,
                    args=[notification.job_id],
                    task_id=notification.task_id(),
                    shadow=notification.task_name,
                    queue=notification.queue,
                    priority=MAX_PRIORITY - notification.priority,  # with Redis, 0 is the first to be taken
                    retry=True,
                    retry_policy={"max_retries": 2},
                )
        except UNREACHABLE as error:
            raise ServiceError(
                f"the broker cannot be used ({error}): the jobs are kept and start once it answers"
            ) from error
