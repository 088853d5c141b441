"""hsae-admin jobs cancel and retry: stop jobs, and try ended ones again."""

import getpass
import socket

import click

from hsae.cli.framework.completion import complete_jobs, complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.printing.output import json_option, print_json
from hsae.errors import ServiceError, UserError


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


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
    from hsae.catalog import transaction
    from hsae.catalog.queries.studies import require_study
    from hsae.pipeline.control.jobs import cancel as cancel_jobs
    from hsae.pipeline.control.jobs import jobs_of_study

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
    done = cancel_jobs(connections.sessions, connections.store, list(dict.fromkeys(chosen)), _who(), keep=keep)
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
    from hsae.catalog import transaction
    from hsae.catalog.queries.jobs import list_jobs
    from hsae.catalog.queries.studies import require_study
    from hsae.pipeline.control.jobs import retry as retry_jobs
    from hsae.pipeline.control.jobs import retry_all
    from hsae.pipeline.queue.jobs import not_rung

    if not jobs and study is None and not failed:
        raise UserError("name the jobs to try again, or use --study N or --failed (see `hsae-admin jobs list`)")
    with transaction(connections.sessions) as session:
        again = retry_jobs(session, list(dict.fromkeys(jobs)), _who(), connections.settings)
        chosen: list[int] = []
        if study is not None:
            require_study(session, study)
            chosen += [row["id"] for row in list_jobs(session, study_id=study, states=("failed", "cancelled"))]
        if failed:
            chosen += [row["id"] for row in list_jobs(session, states=("failed",))]
        fresh = [job for job in dict.fromkeys(chosen) if job not in again.job_ids]
        more, left = retry_all(session, fresh, _who(), connections.settings)
    requeued = sorted({*again.job_ids, *more.job_ids})
    bells = (*again.bells, *more.bells)
    try:
        connections.doorbell.ring(bells)
    except ServiceError as error:
        with transaction(connections.sessions) as session:
            not_rung(session, bells)
        click.echo(f"Warning: {error}", err=True)
    if as_json:
        print_json({"requeued": requeued, "left": {str(job): why for job, why in left.items()}})
        return
    if requeued:
        click.echo(f"queued again: {', '.join(f'job {job}' for job in requeued)}")
    for job, why in sorted(left.items()):
        click.echo(f"job {job} is left alone: {why}")
    if not requeued and not left:
        click.echo("nothing to try again: no job has failed or was cancelled")
