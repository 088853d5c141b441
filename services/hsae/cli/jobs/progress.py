"""Live progress of a study's jobs."""

import re
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from hsae.catalog import JOB_STATES, UNSUCCESSFUL_STATES
from hsae.cli.framework.connections import Connections
from hsae.cli.jobs.state import attempts, duration, progress, state
from hsae.cli.printing.table import Cell, Column, FittedTable
from hsae.pipeline.queue.jobs import NEEDS_ENDED
from hsae.pipeline.submission.waiting import (
    POLL_SECONDS,
    is_busy,
    raise_failure,
    study_jobs,
    unattended_queues,
    wait_for_jobs,
)

_PIPE_SECONDS = 10.0
_FRAME_LINES = 4  # heading, line of hidden jobs, sum, and the cursor's
_UNEVENTFUL = {"succeeded", "waiting", "queued"}  # no news of a job that is found so
_BAR_WIDTH = 24
_LEAST_TITLE = len("train topk SAE x8, layer 11")


def _fixed(key: str, heading: str, *, widest: str, least: str, is_right: bool = False) -> Column:
    return Column(key, heading, is_right=is_right, breaks="end", room=len(widest), least_room=len(least))


_COLUMNS = (
    _fixed("mark", "", widest="✓", least="✓"),
    Column("job", "job", is_right=True),
    Column("what", "what", breaks="middle"),
    _fixed("progress", "progress", widest="━" * _BAR_WIDTH, least="in 12 min 34 s"),
    _fixed("rate", "rate", widest="1234567 vectors/s", least="1234567/s", is_right=True),
    _fixed("left", "left", widest="12 min 34 s", least="12 min 34 s", is_right=True),
    _fixed("note", "now", widest="loss 0.1234, FVU 0.123, L0 32.0", least="loss 1.234e-05"),
    _fixed("remarks", "", widest="priority 5, attempt 2/10, 80.0 GB of GPU memory", least="attempt 1/3 (+2 outages)"),
)
"""Which of them fit, and how wide they are, depends on the terminal alone and not on what their cells say."""
_IMPORTANCE = ("job", "mark", "what", "progress", "note", "rate", "left", "remarks")
_GROWING = ("rate", "remarks", "note", "what")
_MARK = {"succeeded": "✓", "failed": "✗", "cancelled": "∅", "running": "▶", "queued": "…", "waiting": "·"}


def wait_for_study(connections: Connections, study_id: int, *, quiet: bool = False) -> None:
    """Show a study's jobs until none is left to do. Ctrl-C ends the display, not the jobs.

    Raises:
        UserError: a job failed or was cancelled.
    """
    console = Console(highlight=False, stderr=True, quiet=quiet)
    try:
        jobs = study_jobs(connections, study_id)
        if is_busy(jobs):
            _warn_of_unattended_queues(connections, jobs)
        jobs = (_watch_live if console.is_terminal else _watch_lines)(connections, study_id, console)
    except KeyboardInterrupt:
        click.echo(
            f"\nNo longer watching; the jobs go on. Watch again with `hsae-admin jobs watch {study_id}`.", err=True
        )
        raise SystemExit(130) from None
    raise_failure(jobs)


def _warn_of_unattended_queues(connections: Connections, jobs: list[dict[str, Any]]) -> None:
    """Warn of jobs in a queue from which no worker takes jobs; a worker may still start."""
    for queue in unattended_queues(connections, jobs):
        click.echo(
            f"No worker listens to queue {queue}: start one with `hsae-admin worker --queue {queue}`"
            " (or `hsae-admin up`); waiting for it.",
            err=True,
        )


def _watch_live(connections: Connections, study_id: int, console: Console) -> list[dict[str, Any]]:
    with Live(console=console, refresh_per_second=4) as live:
        return wait_for_jobs(
            connections,
            study_id,
            on_look=lambda jobs: live.update(render(list(jobs), console.height, console.width)),
        )


def _watch_lines(connections: Connections, study_id: int, console: Console) -> list[dict[str, Any]]:
    """For a pipe or a log: a line per change of state, at intervals one of progress, and the sum."""
    seen: dict[int, tuple[str, bool]] = {}
    told: dict[int, int | None] = {}
    spoken = time.monotonic()
    while True:
        jobs = study_jobs(connections, study_id)
        speak = time.monotonic() - spoken >= _PIPE_SECONDS
        for job in jobs:
            number, now = job["id"], (job["state"], job["pause_seconds"] is not None)
            news = seen.get(number) != now and (number in seen or now[1] or now[0] not in _UNEVENTFUL)
            moved = speak and job["state"] == "running" and told.get(number) != job["progress_done"]
            if news or moved:
                told[number] = job["progress_done"]
                trouble = f"  ({words})" if (words := _trouble(job)) else ""
                console.print(
                    f"job {number:>4} {state(job):<9} {job['title']}{_progress_text(job)}{trouble}",
                    soft_wrap=True,
                    markup=False,
                )
            seen[number] = now
        if speak:
            spoken = time.monotonic()
        if not is_busy(jobs):
            console.print(_summary(jobs), soft_wrap=True)
            return jobs
        time.sleep(POLL_SECONDS)


def _progress_text(job: dict[str, Any]) -> str:
    done = progress(job)
    if job["state"] != "running" or done is None:
        return ""
    text = f"  {done}"
    if job["progress_rate"]:
        text += f", {job['progress_rate']:.0f}/s, {duration(job['eta_seconds'])} left"
    if job["progress_note"]:
        text += f", {job['progress_note']}"
    return text


def _trouble(job: dict[str, Any]) -> str:
    """The last error of a job that failed or waits for another attempt."""
    in_trouble = job["pause_seconds"] is not None or job["state"] in UNSUCCESSFUL_STATES
    return str(job["error"] or "") if in_trouble else ""


def render(jobs: list[dict[str, Any]], height: int | None = None, width: int | None = None) -> RenderableType:
    """A table of jobs with a progress bar each, and a line that sums them up.

    If they do not fit into `height` lines, running jobs are shown first, then failed ones, then the next ones. One of
    the lines names the columns that do not fit into `width`.
    """
    shown = jobs if height is None else _most_telling(jobs, max(3, height - _FRAME_LINES))
    columns = _columns(jobs)
    fitting = {column.key for column in columns} if width is None else _table([], columns).widths(width).keys()
    if height is not None and len(fitting) < len(columns):
        shown = _most_telling(jobs, max(3, height - _FRAME_LINES - 1))
    lines: list[RenderableType] = [_table(shown, columns, has_remarks="remarks" in fitting)]
    if len(shown) < len(jobs):
        ids = {job["id"] for job in shown}
        lines.append(Text(f"… and {_counts(job for job in jobs if job['id'] not in ids)}", style="dim"))
    lines.append(_summary(jobs))
    return Group(*lines)


def _columns(jobs: list[dict[str, Any]]) -> list[Column]:
    """The columns, with room for the longest number and the longest title of all jobs, shown or not."""
    number = max((len(str(job["id"])) for job in jobs), default=1)
    title = max((cell_len(job["title"]) for job in jobs), default=1)
    rooms = {"job": (number, number), "what": (title, min(title, _LEAST_TITLE))}
    rooms |= {column.key: (column.room, column.least_room) for column in _COLUMNS if column.key not in rooms}
    return [replace(c, room=rooms[c.key][0], least_room=rooms[c.key][1]) for c in _COLUMNS]


def _table(shown: list[dict[str, Any]], columns: list[Column], *, has_remarks: bool = True) -> FittedTable:
    """The table; without remarks, an error stands in the place of what a job that does not run does now."""
    rows: list[list[Cell]] = []
    for job in shown:
        running = job["state"] == "running"
        total, done = job["progress_total"], job["progress_done"] or 0
        bar: Cell = ProgressBar(total=total, completed=done) if total and running else _state_forms(job)
        rate: Cell = ""
        if running and job["progress_rate"]:
            rate = (f"{job['progress_rate']:.0f} {job['progress_unit']}/s", f"{job['progress_rate']:.0f}/s")
        left = duration(job["eta_seconds"]) if running else ""
        note = _note_forms(job["progress_note"] or "") if running else ("" if has_remarks else _trouble(job))
        cells: dict[str, Cell] = {
            "mark": _MARK[job["state"]], "job": str(job["id"]), "what": title_forms(job["title"]), "progress": bar,
            "rate": rate, "left": left, "note": note, "remarks": _remarks(job),
        }  # fmt: skip
        rows.append([cells[column.key] for column in columns])
    return FittedTable(columns, rows, importance=_IMPORTANCE, growing=_GROWING, one_line_note=True)


def title_forms(title: str) -> tuple[str, ...]:
    """A job's title and shorter forms: without the split, without any settings in brackets, without model and images.

    They keep what tells the jobs of a study apart: the kind of SAE, the layer, and of cross-fitting the half.
    """
    without_split = re.sub(r" \(split=[^()]*\)", "", title)
    bare = re.sub(r" \([^()]*\)", "", title)
    shortest = re.sub(r" of \S+ (layer [\d, -]*\d).*?(, half \d scored)?$", r", \1\2", bare)
    return tuple(dict.fromkeys((title, without_split, bare, shortest)))


def _state_forms(job: dict[str, Any]) -> tuple[str, ...]:
    """The job's state, and the shorter `in 12 s` where it waits for another attempt."""
    long = state(job)
    return (long,) if job["pause_seconds"] is None else (long, long.removeprefix("again "))


def _note_forms(note: str) -> tuple[str, ...]:
    """A note and its first parts alone: a training tells its loss first."""
    parts = note.split(", ")
    return tuple(", ".join(parts[:n]) for n in range(len(parts), 0, -1))


def _summary(jobs: list[dict[str, Any]]) -> str:
    return f"{sum(job['state'] == 'succeeded' for job in jobs)} of {len(jobs)} jobs done"


def _most_telling(jobs: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """The `n` most important jobs, in their order."""
    if len(jobs) <= n:
        return jobs

    def urgency(job: dict[str, Any]) -> tuple[int, int]:
        if job["state"] in UNSUCCESSFUL_STATES:
            # What merely waited for a failed job tells less than that one.
            return (3 if (job["error"] or "").startswith(NEEDS_ENDED) else 1, job["id"])
        rank = {"running": 0, "queued": 4, "waiting": 5, "succeeded": 6}[job["state"]]
        return (2 if job["pause_seconds"] is not None else rank, job["id"])

    chosen = {job["id"] for job in sorted(jobs, key=urgency)[:n]}
    return [job for job in jobs if job["id"] in chosen]


def _counts(jobs: Any) -> str:
    states = Counter(job["state"] for job in jobs)
    return ", ".join(f"{states[name]} {name}" for name in JOB_STATES if states[name])


def _remarks(job: dict[str, Any]) -> str:
    """What differs from the usual: the last error, priority, further attempts, GPU memory."""
    trouble = _trouble(job)
    remarks = [trouble] if trouble else []
    if job["priority"]:
        remarks.append(f"priority {job['priority']}")
    if job["attempt"] > 1 or job["outages"]:
        remarks.append(f"attempt {attempts(job)}")
    if job["gpu_memory_bytes"] and job["state"] == "running":
        remarks.append(f"{decimal(job['gpu_memory_bytes'])} of GPU memory")
    return ", ".join(remarks)
