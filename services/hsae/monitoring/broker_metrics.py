"""Metric of the messages that wait in the broker."""

from celery import Celery
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from hsae.catalog.vocabulary import QUEUES
from hsae.pipeline.queue.notifier import UNREACHABLE, broker_away, make_app, queue_length
from hsae.settings import Settings

_CONNECT_SECONDS = 2


def impatient_app(settings: Settings) -> Celery:
    """A client of the broker with short timeouts: a scrape must answer even if the broker does not.

    Raises:
        UserError: when no broker is set.
    """
    app = make_app(settings)
    options = {"socket_connect_timeout": _CONNECT_SECONDS, "socket_timeout": _CONNECT_SECONDS}
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, **options}
    return app


def queue_metric(app: Celery, settings: Settings) -> Metric:
    """The lengths of all queues.

    Args:
        app: a client of the broker.
        settings: what `app` was made of.

    Raises:
        ServiceError: when the broker does not answer.
    """
    family = GaugeMetricFamily(
        "hsae_queue_messages", "Messages in the broker that no worker has taken.", labels=("queue",)
    )
    try:
        with app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=_CONNECT_SECONDS)
            for queue in QUEUES:
                family.add_metric((queue,), queue_length(connection, queue))
    except UNREACHABLE as error:
        raise broker_away(error, settings) from error
    return family
