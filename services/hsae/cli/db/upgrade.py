"""hsae-admin db upgrade."""

import click

from hsae.catalog import connect
from hsae.catalog.server import migrate
from hsae.catalog.server import reader_role as reader
from hsae.catalog.server.schema_version import schema_version
from hsae.cli.framework.connections import Connections, pass_connections


@click.command()
@pass_connections
def upgrade(connections: Connections) -> None:
    """Bring the database's schema to this version's; safe to repeat."""
    engine = connect(connections.settings)
    before = schema_version(engine)
    after = migrate.upgrade(engine)
    if before.current == after.current:
        click.echo(f"The database is up to date ({after.current}).")
    else:
        click.echo(f"Migrated the database from {before.current or 'empty'} to {after.current}.")
    click.echo(f"Read-only role: {reader.status(engine)}.")
