"""The means that stand below a list of findings, whose legend is theirs: the SAE beside its controls."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import transaction
from hsae.cli.printing.better import marked
from hsae.cli.printing.output import console, table


def print_means(
    sessions: sessionmaker[Session],
    rows: list[dict[str, Any]],
    find: Callable[[Session, list[int]], list[dict[str, Any]]],
    columns: Mapping[str, str],
    title: str,
) -> None:
    """Print the means that `find` gives for the analyses of these rows; nothing, if it gives none."""
    with transaction(sessions) as session:
        means = find(session, sorted({row["analysis_id"] for row in rows}))
    if means:
        out = console()
        out.print()
        out.print(table(means, marked(columns), title=title))
