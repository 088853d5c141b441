"""The broker as a doorbell: a message carries a job's id and nothing else, and may be lost or doubled without harm."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import ChannelError, OperationalError

from hsae.errors import ServiceError, UserError
from hsae.settings import Settings

QUEUE = "gpu"
RUN_JOB = "hsae.run_job"


def make_app(settings: Settings) -> Celery:
    """The Celery application that both ends share: JSON only, no result backend, messages acknowledged early.

    Raises:
        UserError: when no broker is set.
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
        task_default_queue=QUEUE,
        # The lease in Postgres decides who runs a job, so a message is done with as soon as it is read.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"socket_connect_timeout": 5, "socket_timeout": 30},
    )
    return app


def _redis_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and (parts.port or 1) > 0
        int(parts.path.strip("/") or 0)
    except ValueError:
        sound = False
    if not sound or parts.query:
        raise UserError("HSAE_BROKER_URL is no Redis URL: write redis://:password@host:port/0")
    return url


class Doorbell:
    """Rings for jobs that a worker may start now."""

    def __init__(self, settings: Settings) -> None:
        self._app = make_app(settings)

    def check(self) -> None:
        """Raise a `ServiceError` unless the broker answers."""
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=6)
        except (OperationalError, OSError) as error:
            raise ServiceError(f"the broker cannot be used ({error}): start it or correct HSAE_BROKER_URL") from error

    def workers(self) -> list[str]:
        """Names of the workers that answer a ping."""
        self.check()
        return sorted(name for reply in self._app.control.ping(timeout=2.0) or [] for name in reply)

    def n_messages(self) -> int:
        """Messages that no worker has taken yet."""
        try:
            with self._app.connection_for_read() as connection:
                return int(connection.default_channel.queue_declare(queue=QUEUE, passive=True).message_count)
        except ChannelError:  # the queue is made by its first message
            return 0
        except (OperationalError, OSError) as error:
            raise ServiceError(f"the broker cannot be used ({error}): start it or correct HSAE_BROKER_URL") from error

    def ring(self, job_ids: Iterable[int]) -> None:
        """Send one message per job.

        Raises:
            ServiceError: when the broker cannot be reached; the jobs stay queued in the database and a worker's
                reconciler sends their messages again.
        """
        try:
            for job_id in job_ids:
                self._app.send_task(RUN_JOB, args=[job_id], queue=QUEUE, retry=True, retry_policy={"max_retries": 2})
        except (OperationalError, OSError) as error:
            raise ServiceError(
                f"the broker cannot be used ({error}): the jobs are kept and start once it answers"
            ) from error
