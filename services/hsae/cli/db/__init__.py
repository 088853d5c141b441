"""hsae-admin db: the catalog's schema, and SQL from the shell."""

import click

from hsae.cli.framework.lazy_group import LazyCommand, LazyGroup

_COMMANDS = {
    "current": LazyCommand(
        "hsae.cli.db.current:current", "Show which revision the database is at and which one this version wants."
    ),
    "query": LazyCommand("hsae.cli.db.query:query", "Run one SQL QUERY, read-only, and print its rows."),
    "reader": LazyCommand(
        "hsae.cli.db.reader:reader",
        "Let the read-only role hsae_reader log in, with the password of HSAE_READER_PASSWORD.",
    ),
    "upgrade": LazyCommand(
        "hsae.cli.db.upgrade:upgrade", "Bring the database's schema to this version's; safe to repeat."
    ),
    "url": LazyCommand(
        "hsae.cli.db.url:url", "Print the database's URL, password included, for psql, pandas or a notebook."
    ),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def db() -> None:
    """Migrate the database and query it."""
