"""hsae-admin jobs retry."""

import click

from hsae.catalog import UNSUCCESSFUL_STATES, transaction
from hsae.catalog.queries.jobs import list_jobs
from hsae.catalog.queries.studies import require_study
from hsae.cli.framework.caller import caller
from hsae.cli.framework.completion import complete_jobs, complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.notifying import notify_workers
from hsae.cli.printing.output import print_json
from hsae.errors import UserError
from hsae.pipeline.control.jobs import retry as retry_jobs
from hsae.pipeline.control.jobs import retry_all


@click.command()
@click.argument("jobs", type=int, nargs=-1, shell_complete=complete_jobs)
@click.option("--study", type=int, shell_complete=complete_studies, help="All failed and cancelled jobs of this study.")
@click.option("--failed", is_flag=True, help="All failed jobs.")
@json_option
@pass_connections
def retry(connections: Connections, jobs: tuple[int, ...], study: int | None, failed: bool, as_json: bool) -> None:
    """Queue failed or cancelled JOBS again, with what they need and what waited for them.

    Shards and checkpoints that are there are used.
    """
    if not jobs and study is None and not failed:
        raise UserError("name the jobs to try again, or use --study N or --failed (see `hsae-admin jobs list`)")
    with transaction(connections.sessions) as session:
        again = retry_jobs(session, list(dict.fromkeys(jobs)), caller(), connections.settings)
        chosen: list[int] = []
        if study is not None:
            require_study(session, study)
            chosen += [row["id"] for row in list_jobs(session, study_id=study, states=UNSUCCESSFUL_STATES)]
        if failed:
            chosen += [row["id"] for row in list_jobs(session, states=("failed",))]
        fresh = [job for job in dict.fromkeys(chosen) if job not in again.job_ids]
        more, left = retry_all(session, fresh, caller(), connections.settings)
    requeued = sorted({*again.job_ids, *more.job_ids})
    notify_workers(connections, (*again.notifications, *more.notifications))
    if as_json:
        print_json({"requeued": requeued, "left": {str(job): why for job, why in left.items()}})
        return
    if requeued:
        click.echo(f"queued again: {', '.join(f'job {job}' for job in requeued)}")
    for job, why in sorted(left.items()):
        click.echo(f"job {job} is left alone: {why}")
    if not requeued and not left:
        click.echo("nothing to try again: no job has failed or was cancelled")
