"""Scrapes as Prometheus does them, and logging that is put back after each test."""

import logging
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def sample(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """The key of one sample in what `scrape` returns."""
    return name, frozenset(labels.items())


@pytest.fixture
def scrape() -> Callable[[int], Samples]:
    """Fetches http://127.0.0.1:<port>/metrics; every sample by name and labels."""

    def fetch(port: int) -> Samples:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=300) as response:
            assert response.status == 200
            text = response.read().decode()
        return {
            (found.name, frozenset(found.labels.items())): found.value
            for family in text_string_to_metric_families(text)
            for found in family.samples
        }

    return fetch


@pytest.fixture
def clean_logging() -> Iterator[None]:
    """Take back what `logs.configure` changes."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    levels = {name: found.level for name, found in logging.root.manager.loggerDict.items()
              if isinstance(found, logging.Logger)}  # fmt: skip
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    for name, found in logging.root.manager.loggerDict.items():
        if isinstance(found, logging.Logger):
            found.setLevel(levels.get(name, logging.NOTSET))
    logging.captureWarnings(False)
