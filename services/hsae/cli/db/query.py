"""hsae-admin db query."""

from typing import cast

import click
import psycopg
from sqlalchemy import text

from hsae.catalog import clear_errors
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_csv, print_rows
from hsae.errors import UserError


@click.command()
@click.argument("query")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a line of names; null is an empty field.")
@pass_connections
def query(connections: Connections, query: str, as_json: bool, as_csv: bool) -> None:
    """Run one SQL QUERY, read-only, and print its rows."""
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
