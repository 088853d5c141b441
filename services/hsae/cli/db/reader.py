"""hsae-admin db reader."""

import click

from hsae.catalog.server import reader_role
from hsae.cli.db.url import url_for_psql
from hsae.cli.framework.connections import Connections, pass_connections


@click.command("reader")
@click.option("--show-url", is_flag=True, help="Print its URL with the password, and nothing else.")
@pass_connections
def reader(connections: Connections, show_url: bool) -> None:
    """Let the read-only role hsae_reader log in, with the password of HSAE_READER_PASSWORD.

    For researchers and dashboards: it reads every table and view, and changes nothing. Run again after
    changing the password.
    """
    url = reader_role.admit(connections.engine, connections.settings)
    for fix in reader_role.excess_rights(connections.engine):
        click.echo(f"Warning: {reader_role.READER} can do more than read; as the database's owner run: {fix}", err=True)
    if show_url:
        click.echo(url_for_psql(url))
        return
    plain = reader_role.reader_url(connections.settings.model_copy(update={"reader_password": None}))
    click.echo(f"{reader_role.READER} may log in: {plain.render_as_string()} (the password is HSAE_READER_PASSWORD)")
