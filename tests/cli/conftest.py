"""hsae-admin as a user runs it, against a service of the test's own."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hsae.cli.main import cli
from hsae.taxonomy.wordnet_nouns import WordNetNouns


@functools.cache
def _wordnet(load: Callable[[Path | None], WordNetNouns], folder: Path | None) -> WordNetNouns:
    return load(folder)


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `hsae-admin ARGUMENTS` with a service's variables and given further ones.

    WordNet is loaded once for all of them, which takes a second; a user's command is a process of its own.
    """
    monkeypatch.setattr(WordNetNouns, "load", functools.partial(_wordnet, WordNetNouns.load))

    def run(service, *arguments: object, **environment: str) -> Result:
        for name, value in {**(service.environment if service else {}), **environment}.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    return run
