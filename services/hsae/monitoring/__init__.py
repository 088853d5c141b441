"""Prometheus metrics of the service, read from Postgres and the broker at every scrape."""

from hsae.monitoring.collector import ServiceCollector
from hsae.monitoring.server import MetricsServer

__all__ = ["MetricsServer", "ServiceCollector"]
