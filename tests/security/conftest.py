"""hsae-admin, and a private stack of its own whose administrator the tests may be."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from hsae.embedded import Stack, StackInfo
from hsae.embedded.state import StateFile


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `hsae-admin ARGUMENTS` with a service's variables and given further ones."""
    from hsae.cli.main import cli

    def run(service, *arguments: object, **environment: str) -> Result:
        for name, value in {**(service.environment if service else {}), **environment}.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])

    return run


@dataclass(frozen=True)
class OwnStack:
    """A running stack, its Postgres administrator's URL and the server's log."""

    info: StackInfo
    administrator: str
    log: Path

    def as_administrator(self, statement: str) -> None:
        """Run one statement as a superuser."""
        with psycopg.connect(self.administrator, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="module")
def own_stack() -> Iterator[OwnStack]:
    """Servers of the test module's own: roles belong to a whole Postgres server."""
    with tempfile.TemporaryDirectory(prefix="hsae-test-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        with Stack(home) as stack:
            state = StateFile.read(home)
            password, port = state.credentials.postgres_admin_password, state.ports["postgres"]
            url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
            yield OwnStack(stack.info(), url, stack.log_file("postgres"))
