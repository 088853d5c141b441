"""hsae-admin db url."""

import click
from sqlalchemy import URL

from hsae.catalog import database_url
from hsae.cli.framework.connections import Connections, pass_connections


@click.command()
@pass_connections
def url(connections: Connections) -> None:
    """Print the database's URL, password included, for psql, pandas or a notebook."""
    click.echo(url_for_psql(database_url(connections.settings).set(drivername="postgresql")))


def url_for_psql(url: URL) -> str:
    """The URL, including the password, with spaces escaped.

    libpq does not accept bare spaces, and SQLAlchemy does not escape them.
    """
    return url.render_as_string(hide_password=False).replace(" ", "%20")
