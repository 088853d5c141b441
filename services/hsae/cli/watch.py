"""Live progress of a study's jobs."""

import time
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hsae.catalog import LIVE_STATES, transaction
from hsae.catalog.queries import list_jobs
from hsae.cli.connections import Connections
from hsae.errors import UserError

_POLL_SECONDS = 0.5
_PIPE_SECONDS = 10.0
_MARK = {"succeeded": "✓", "failed": "✗", "cancelled": "∅", "running": "▶", "queued": "…", "waiting": "·"}


def wait_for_study(connections: Connections, study_id: int, *, quiet: bool = False) -> None:
    """Show a study's jobs until none is left to do.

    Raises:
        UserError: when a job failed or was cancelled.
    """
    console = Console(highlight=False, stderr=True, quiet=quiet)
    if _busy(_jobs(connections, study_id)) and not connections.doorbell.workers():
        click.echo(
            "No worker answers yet: start one with `hsae-admin up` or `celery --app hsae_worker.app worker`;"
            " waiting for it.",
            err=True,
        )
    if console.is_terminal:
        jobs = _watch_live(connections, study_id, console)
    else:
        jobs = _watch_lines(connections, study_id, console)
    bad = [job for job in jobs if job["state"] in {"failed", "cancelled"}]
    if bad:
        # What merely waited for a failed job is not its own reason.
        cause = next((job for job in bad if not (job["error"] or "").startswith("needs job")), bad[0])
        raise UserError(f"job {cause['id']} {cause['state']}: {cause['error'] or 'no reason kept'}")


def _jobs(connections: Connections, study_id: int) -> list[dict[str, Any]]:
    with transaction(connections.sessions) as session:
        return list_jobs(session, study_id=study_id)


def _busy(jobs: list[dict[str, Any]]) -> bool:
    return any(job["state"] in LIVE_STATES for job in jobs)


def _watch_live(connections: Connections, study_id: int, console: Console) -> list[dict[str, Any]]:
    jobs = _jobs(connections, study_id)
    with Live(render(jobs), console=console, refresh_per_second=4) as live:
        while _busy(jobs):
            time.sleep(_POLL_SECONDS)
            jobs = _jobs(connections, study_id)
            live.update(render(jobs))
    return jobs


def _watch_lines(connections: Connections, study_id: int, console: Console) -> list[dict[str, Any]]:
    """For a pipe or a log: a line per change of state, and now and then one of progress."""
    seen: dict[int, str] = {}
    spoken = time.monotonic()
    while True:
        jobs = _jobs(connections, study_id)
        for job in jobs:
            running = job["state"] == "running" and time.monotonic() - spoken >= _PIPE_SECONDS
            if seen.get(job["id"]) != job["state"] or running:
                if running:
                    spoken = time.monotonic()
                if job["id"] in seen or job["state"] not in {"succeeded", "waiting", "queued"}:
                    console.print(
                        f"job {job['id']:>4} {job['state']:<9} {job['title']}{_progress_text(job)}",
                        soft_wrap=True,
                    )
            seen[job["id"]] = job["state"]
        if not _busy(jobs):
            return jobs
        time.sleep(_POLL_SECONDS)


def _progress_text(job: dict[str, Any]) -> str:
    if job["state"] != "running" or not job["progress_total"]:
        return ""
    text = f"  {job['progress_done']}/{job['progress_total']} {job['progress_unit']}"
    if job["progress_rate"]:
        text += f", {job['progress_rate']:.0f}/s, {duration(job['eta_seconds'])} left"
    return text


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them."""
    if seconds is None:
        return "-"
    whole = round(float(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def render(jobs: list[dict[str, Any]]) -> RenderableType:
    """A table of jobs with a progress bar each, and a line that sums them up."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (
        ("", "left"),
        ("job", "right"),
        ("what", "left"),
        ("progress", "left"),
        ("rate", "right"),
        ("left", "right"),
    ):
        grid.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for job in jobs:
        total, done = job["progress_total"], job["progress_done"] or 0
        bar: RenderableType = (
            ProgressBar(total=total, completed=done, width=24) if total and job["state"] == "running" else job["state"]
        )
        rate = (
            f"{job['progress_rate']:.0f} {job['progress_unit']}/s"
            if job["state"] == "running" and job["progress_rate"]
            else ""
        )
        left = duration(job["eta_seconds"]) if job["state"] == "running" else ""
        grid.add_row(_MARK[job["state"]], str(job["id"]), Text(job["title"]), bar, rate, left)
    n_done = sum(job["state"] == "succeeded" for job in jobs)
    return Group(grid, f"{n_done} of {len(jobs)} jobs done")
