"""Brings the database's schema to this version's, and tells how they stand."""

from dataclasses import dataclass

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from hsae.catalog.session import clear_errors
from hsae.errors import UserError

_ADVISORY_LOCK = 0x68736165  # "hsae": two upgrades at once take turns


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """The revision a database is at (None: empty) and the one this version of hsae wants."""

    current: str | None
    head: str

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is left to migrate."""
        return self.current == self.head


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "hsae_migrations:")
    config.attributes["connection"] = connection
    return config


def schema_version(engine: Engine) -> SchemaVersion:
    """Read the database's revision."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise AssertionError("no migration ships with this build")
    with clear_errors(), engine.connect() as connection:
        return SchemaVersion(MigrationContext.configure(connection).get_current_revision(), head)


def require_current_schema(engine: Engine) -> None:
    """Raise a `UserError` unless the schema is the one this version needs."""
    version = schema_version(engine)
    if not version.up_to_date:
        at = version.current or "empty"
        raise UserError(
            f"the database is not migrated (it is at {at}, wanted {version.head}): run `hsae-admin db upgrade`"
        )


def upgrade(engine: Engine, revision: str = "head") -> SchemaVersion:
    """Migrate upwards to `revision`; safe to run twice and by two processes at once."""
    with clear_errors(), engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        command.upgrade(_config(connection), revision)
    return schema_version(engine)


def downgrade(engine: Engine, revision: str) -> SchemaVersion:
    """Migrate downwards to `revision` (`base` empties the schema)."""
    with clear_errors(), engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        command.downgrade(_config(connection), revision)
    return schema_version(engine)
