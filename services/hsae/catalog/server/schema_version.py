"""Compares the database's schema with this version of hsae, without Alembic, which takes long to import."""

from dataclasses import dataclass
from importlib import resources

from sqlalchemy import Engine, text

from hsae.catalog.server.session import clear_errors
from hsae.errors import UserError


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """The revision of a database (None: empty) and the one that this version of hsae needs."""

    current: str | None
    head: str

    @property
    def up_to_date(self) -> bool:
        """Whether there is nothing to migrate."""
        return self.current == self.head


def schema_version(engine: Engine) -> SchemaVersion:
    """Read the database's revision."""
    with clear_errors(), engine.connect() as connection:
        is_migrated = connection.execute(text("SELECT to_regclass('alembic_version') IS NOT NULL")).scalar_one()
        query = text("SELECT version_num FROM alembic_version")
        current = connection.execute(query).scalar_one_or_none() if is_migrated else None
    return SchemaVersion(current, _head())


def require_current_schema(engine: Engine) -> None:
    """Check that the schema is the one this version needs.

    Raises:
        UserError: it is not; the message says what to do.
    """
    version = schema_version(engine)
    if not version.up_to_date:
        at = version.current or "empty"
        raise UserError(
            f"the database is not migrated (it is at {at}, wanted {version.head}): run `hsae-admin db upgrade`"
        )


def _head() -> str:
    """The last migration's revision, with which its file's name begins, such as 0009_latent_edges.py."""
    names = (entry.name for entry in resources.files("hsae_migrations.versions").iterdir())
    return max(name.partition("_")[0] for name in names if name[:1].isdecimal())
