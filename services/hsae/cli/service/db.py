"""hsae-admin db: the catalog's schema, and SQL from the shell."""

from typing import TYPE_CHECKING, cast

import click

from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.groups import HelpfulGroup
from hsae.cli.printing.output import json_option, print_csv, print_json, print_rows
from hsae.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy import URL


@click.group(cls=HelpfulGroup)
def db() -> None:
    """Migrate the database and query it."""


@db.command()
@pass_connections
def upgrade(connections: Connections) -> None:
    """Bring the database's schema to this version's; safe to repeat."""
    from hsae.catalog import connect
    from hsae.catalog.server import migrate
    from hsae.catalog.server import reader_role as reader
    from hsae.catalog.server.schema_version import schema_version

    engine = connect(connections.settings)
    before = schema_version(engine)
    after = migrate.upgrade(engine)
    if before.current == after.current:
        click.echo(f"The database is up to date ({after.current}).")
    else:
        click.echo(f"Migrated the database from {before.current or 'empty'} to {after.current}.")
    click.echo(f"Read-only role: {reader.status(engine)}.")


@db.command()
@json_option
@pass_connections
def current(connections: Connections, as_json: bool) -> None:
    """Show which revision the database is at and which one this version wants."""
    from hsae.catalog import connect
    from hsae.catalog.server.schema_version import schema_version

    version = schema_version(connect(connections.settings))
    if as_json:
        print_json({"current": version.current, "head": version.head, "up_to_date": version.up_to_date})
    elif version.up_to_date:
        click.echo(f"{version.current} (up to date)")
    else:
        click.echo(f"{version.current or 'empty'} (wanted: {version.head}; run `hsae-admin db upgrade`)")


@db.command()
@click.argument("query")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a line of names; null is an empty field.")
@pass_connections
def query(connections: Connections, query: str, as_json: bool, as_csv: bool) -> None:
    """Run one SQL QUERY, read-only, and print its rows."""
    import psycopg
    from sqlalchemy import text

    from hsae.catalog import clear_errors

    if as_json and as_csv:
        raise click.UsageError("choose one of --json and --csv")
    with clear_errors(), connections.engine.connect() as connection:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        driver = cast("psycopg.Connection", connection.connection.dbapi_connection)
        try:
            # Prepared, the server takes one statement only: no COMMIT can lead out of the read-only transaction.
            cursor = driver.execute(query.encode(), prepare=True)
            names = [column.name for column in cursor.description or ()]
            found = cursor.fetchall() if names else []
        except psycopg.Error as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"Postgres refused the query: {reason}") from error
    if not names:
        raise UserError("the query returns no rows: write a SELECT")
    if len(set(names)) < len(names):
        raise UserError("two columns of the query have the same name: name them apart with AS")
    if as_csv:
        print_csv(names, found)
        return
    rows = [dict(zip(names, row, strict=True)) for row in found]
    print_rows(rows, {name: name for name in names}, as_json=as_json, empty="(no rows)")


@db.command()
@pass_connections
def url(connections: Connections) -> None:
    """Print the database's URL, password included, for psql, pandas or a notebook."""
    from hsae.catalog import database_url

    click.echo(_for_psql(database_url(connections.settings).set(drivername="postgresql")))


@db.command("reader")
@click.option("--show-url", is_flag=True, help="Print its URL with the password, and nothing else.")
@pass_connections
def let_reader_in(connections: Connections, show_url: bool) -> None:
    """Let the read-only role hsae_reader log in, with the password of HSAE_READER_PASSWORD.

    For researchers and dashboards: it reads every table and view, and changes nothing. Run again after
    changing the password.
    """
    from hsae.catalog.server import reader_role as reader

    url = reader.admit(connections.engine, connections.settings)
    for mend in reader.excess_rights(connections.engine):
        click.echo(f"Warning: {reader.READER} can do more than read; as the database's owner run: {mend}", err=True)
    if show_url:
        click.echo(_for_psql(url))
        return
    plain = reader.reader_url(connections.settings.model_copy(update={"reader_password": None}))
    click.echo(f"{reader.READER} may log in: {plain.render_as_string()} (the password is HSAE_READER_PASSWORD)")


def _for_psql(url: "URL") -> str:
    """The URL, password included; libpq takes no bare spaces, which SQLAlchemy leaves."""
    return url.render_as_string(hide_password=False).replace(" ", "%20")
