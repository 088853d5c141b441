"""Serves the metrics over HTTP, with prometheus_client's own server."""

from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, start_http_server

from hsae.errors import UserError
from hsae.monitoring.collector import ServiceCollector
from hsae.monitoring.probes import Probes
from hsae.settings import Settings


class MetricsServer:
    """Serves `http://host:port/metrics` inside its context; port 0 chooses a free port.

    Raises:
        UserError: the address cannot be used, or no database or broker is set.
    """

    def __init__(self, settings: Settings, host: str, port: int) -> None:
        self._probes = Probes(settings)
        self._collector = ServiceCollector(settings, self._probes)
        registry = CollectorRegistry()
        registry.register(self._collector)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port} ({error.strerror or error}): choose another --port"
            ) from error
        self.port = int(self._server.server_port)

    def __enter__(self) -> Self:
        self._probes.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._probes.stop()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._collector.close()
