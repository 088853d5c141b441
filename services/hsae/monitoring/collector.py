"""The collector: at every scrape it reads the parts of the service; a failed part lacks only its own metrics."""

import threading
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine, create_engine

from hsae.catalog import clear_errors, database_url
from hsae.errors import HsaeError
from hsae.monitoring.broker_metrics import impatient_app, queue_metric
from hsae.monitoring.catalog_metrics import catalog_metrics
from hsae.monitoring.event_counts import EventCounts
from hsae.monitoring.probes import Outages, Probes
from hsae.settings import Settings

_CONNECT_SECONDS = 3
_STATEMENT_MILLISECONDS = 60_000


class ServiceCollector(Collector):
    """Every metric of the service. One scrape at a time reads the database; others wait.

    Raises:
        UserError: no database or broker is set, or their URLs are invalid.
    """

    def __init__(self, settings: Settings, probes: Probes) -> None:
        self._engine = _engine(settings)
        self._settings = settings
        self._app = impatient_app(settings)
        self._probes = probes
        self._counts = EventCounts()
        self._outages = Outages()
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """All metric families of this moment."""
        up: dict[str, bool] = {}
        with self._lock:
            found = self._part("database", self._read_catalog, up)
            found += self._part("broker", lambda: [queue_metric(self._app, self._settings)], up)
        yield from found
        if self._probes.store_up is not None:
            up["object_store"] = self._probes.store_up
        workers = GaugeMetricFamily("hsae_workers", "Workers that answer, by the queue they take.", labels=("queue",))
        for queue, n in sorted((self._probes.workers or {}).items()):
            workers.add_metric((queue,), n)
        yield workers
        family = GaugeMetricFamily("hsae_up", "1 where a part of the service answers, else 0.", labels=("part",))
        for part, answers in up.items():
            family.add_metric((part,), float(answers))
        yield family

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _part(self, part: str, read: Callable[[], list[Metric]], up: dict[str, bool]) -> list[Metric]:
        try:
            found = read()
        except HsaeError as error:
            self._outages.failed(part, error)
            up[part] = False
            return []
        self._outages.worked(part)
        up[part] = True
        return found

    def _read_catalog(self) -> list[Metric]:
        with clear_errors(), self._engine.connect() as connection:
            return list(catalog_metrics(connection, self._counts))


def _engine(settings: Settings) -> Engine:
    return create_engine(
        database_url(settings),
        isolation_level="REPEATABLE READ",
        pool_pre_ping=True,
        pool_size=1,
        connect_args={
            "connect_timeout": _CONNECT_SECONDS,
            "options": f"-c statement_timeout={_STATEMENT_MILLISECONDS} -c default_transaction_read_only=on",
            "application_name": "hsae metrics",
        },
    )
