"""hsae-admin jobs cancel."""

import click

from hsae.catalog import transaction
from hsae.catalog.queries.studies import require_study
from hsae.cli.framework.caller import caller
from hsae.cli.framework.completion import complete_jobs, complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.errors import UserError
from hsae.pipeline.control.jobs import cancel as cancel_jobs
from hsae.pipeline.control.jobs import jobs_of_study


@click.command()
@click.argument("jobs", type=int, nargs=-1, shell_complete=complete_jobs)
@click.option(
    "--study", type=int, shell_complete=complete_studies, help="All jobs of this study that no other study needs."
)
@click.option("--keep", is_flag=True, help="Keep finished shards and checkpoints: `jobs retry` goes on from them.")
@json_option
@pass_connections
def cancel(connections: Connections, jobs: tuple[int, ...], study: int | None, keep: bool, as_json: bool) -> None:
    """Cancel JOBS, and whatever waits for them; a running one stops within seconds."""
    if not jobs and study is None:
        raise UserError(
            "name the jobs to cancel, or a study with --study (see `hsae-admin jobs list` and `studies list`)"
        )
    chosen = list(jobs)
    shared: dict[int, str] = {}
    if study is not None:
        with transaction(connections.sessions) as session:
            require_study(session, study)
            own, shared = jobs_of_study(session, study)
        chosen += own
    done = cancel_jobs(connections.sessions, connections.store, list(dict.fromkeys(chosen)), caller(), keep=keep)
    left = {**shared, **done.left}
    left = {job: why for job, why in left.items() if job not in done.job_ids}
    if done.not_deleted is not None:
        click.echo(
            f"Warning: not all partial work could be deleted, `hsae-admin gc --partial` will: {done.not_deleted}",
            err=True,
        )
    if as_json:
        print_json({"cancelled": done.job_ids, "left": {str(job): why for job, why in left.items()}})
    else:
        for job in done.job_ids:
            click.echo(f"job {job} is cancelled")
        for job, why in sorted(left.items()):
            click.echo(f"job {job} is left alone: {why}")
        if not done.job_ids and not left:
            click.echo("nothing to cancel: every job is done")
    if jobs and not done.job_ids:
        raise UserError("no job was cancelled")
