"""hsae-admin jobs logs: the log of a job, on whichever machine it ran."""

import json
import time
from typing import Any

import click

from hsae.catalog import LIVE_STATES, transaction
from hsae.catalog.queries.jobs import find_job
from hsae.cli.framework.completion import complete_jobs
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.study_choice import job_or_latest, say
from hsae.errors import UserError
from hsae.pipeline.execution.job_log import logged_starts, read_job_log

_POLL_SECONDS = 2.0


@click.command()
@click.argument("job", type=int, required=False, shell_complete=complete_jobs)
@click.option(
    "--attempt", type=click.IntRange(min=1), help="Log of this start of the job, from 1.  [default: the latest]"
)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends, through all its further attempts.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON lines.")
@pass_connections
def logs(connections: Connections, job: int | None, attempt: int | None, follow: bool, as_json: bool) -> None:
    """Print the log of one JOB (default: the latest that was started), from the object store.

    Workers store it every ten seconds and when the attempt ends. Every start of a job has a log of its own.
    """
    with transaction(connections.sessions) as session:
        number, note = job_or_latest(session, job)
    state = _state(connections, number)
    say(note, quiet=as_json)
    if follow:
        _follow(connections, number, attempt, as_json=as_json)
        return
    try:
        records = read_job_log(connections.store, number, attempt)
    except UserError as error:
        raise UserError(f"{error} (the job is {state})") from error
    for record in records:
        click.echo(_line(record, as_json=as_json))


def _follow(connections: Connections, job: int, attempt: int | None, *, as_json: bool) -> None:
    """Print records as they come, of `attempt` only, or of the latest and all that follow it."""
    n_printed: dict[int, int] = {}
    while True:
        live = _state(connections, job) in LIVE_STATES
        if not live:
            time.sleep(_POLL_SECONDS)  # the last lines are stored after the job's state
        starts = logged_starts(connections.store, job)
        first = min([*n_printed, *starts[-1:]], default=0)
        for start in starts:
            if start == attempt or (attempt is None and start >= first):
                records = read_job_log(connections.store, job, start)
                for record in records[n_printed.get(start, 0) :]:
                    click.echo(_line(record, as_json=as_json))
                n_printed[start] = len(records)
        if not live:
            if not n_printed:
                read_job_log(connections.store, job, attempt)  # says what is missing
            return
        time.sleep(_POLL_SECONDS)


def _state(connections: Connections, job: int) -> str:
    with transaction(connections.sessions) as session:
        return str(find_job(session, job)["state"])


def _line(record: dict[str, Any], *, as_json: bool) -> str:
    if as_json:
        return json.dumps(record, ensure_ascii=False)
    text = f"{record['time']} {record['level']:<8} {record['message']}"
    for extra in ("exception", "stack"):
        if record.get(extra):
            text += "".join(f"\n    {line}" for line in str(record[extra]).splitlines())
    return text
