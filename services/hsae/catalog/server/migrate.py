"""Migrates the database to this version's schema."""

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from hsae.catalog.server.schema_version import SchemaVersion, schema_version
from hsae.catalog.server.session import clear_errors

_ADVISORY_LOCK = 0x68736165  # "hsae": two upgrades at once take turns


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "hsae_migrations:")
    config.attributes["connection"] = connection
    return config


def upgrade(engine: Engine, revision: str = "head") -> SchemaVersion:
    """Migrate up to `revision`. Running it twice, or in two processes at once, is safe."""
    return _migrate(engine, command.upgrade, revision)


def downgrade(engine: Engine, revision: str) -> SchemaVersion:
    """Migrate down to `revision` (`base` empties the schema)."""
    return _migrate(engine, command.downgrade, revision)


def _migrate(engine: Engine, migrate: Callable[[Config, str], None], revision: str) -> SchemaVersion:
    with clear_errors(), engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        migrate(_config(connection), revision)
    return schema_version(engine)
