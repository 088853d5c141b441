"""hsae-admin metrics: the exporter that Prometheus scrapes."""

import signal
import threading

import click

from hsae import logs
from hsae.cli.framework.connections import Connections, home_option, pass_connections
from hsae.monitoring import MetricsServer


@click.command()
@home_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9808, show_default=True, help="Port; 0 takes a free one."
)
@pass_connections
def metrics(connections: Connections, host: str, port: int) -> None:
    """Serve Prometheus metrics of jobs, queues and workers at /metrics, until stopped.

    Whoever reaches the port can read them, without a password.
    """
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    logs.configure(connections.settings)
    with MetricsServer(connections.settings, host, port) as server:
        click.echo(f"Metrics: http://{host}:{server.port}/metrics")
        stopped.wait()
