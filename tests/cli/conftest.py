"""hsae-admin as a user runs it, against a service of the test's own."""

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from hsae.cli.main import cli


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `hsae-admin ARGUMENTS` with a service's variables and given further ones."""

    def run(service, *arguments: object, **environment: str) -> Result:
        for name, value in {**(service.environment if service else {}), **environment}.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    return run
