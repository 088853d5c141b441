"""Shell completion from the catalog: numbers of jobs and studies, names of data sets."""

import click
from click.shell_completion import CompletionItem

from hsae.cli.framework.connections import Connections

_N_COMPLETIONS = 50

_JOBS = "SELECT id::text, state || ': ' || title FROM job WHERE id::text LIKE :start ORDER BY job.id DESC LIMIT :n"
_STUDIES = "SELECT id::text, name FROM study WHERE id::text LIKE :start ORDER BY study.id DESC LIMIT :n"
_DATASETS = (
    "SELECT name, n_images || ' images' FROM dataset WHERE starts_with(name, :start) ORDER BY dataset.id LIMIT :n"
)


def complete_jobs(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Ids of jobs, the latest first."""
    return _ask(ctx, _JOBS, f"{incomplete}%") if incomplete.isdecimal() or not incomplete else []


def complete_studies(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Ids of studies, the latest first."""
    return _ask(ctx, _STUDIES, f"{incomplete}%") if incomplete.isdecimal() or not incomplete else []


def complete_datasets(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Names of registered data sets."""
    return _ask(ctx, _DATASETS, incomplete)


def _ask(ctx: click.Context, query: str, start: str) -> list[CompletionItem[str]]:
    """The catalog's answer, if it comes at once; no error may appear in the middle of a command line."""
    # Only a value is asked of the database: the options of a command complete without SQLAlchemy.
    from hsae.cli.framework.quick_query import quick_rows

    connections = ctx.find_object(Connections) or Connections()
    rows = quick_rows(connections, query, {"start": start, "n": _N_COMPLETIONS})
    return [CompletionItem(value, help=words) for value, words in rows]
