"""One job as lines of text: title, needs, request, results and history."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.filesize import decimal

from hsae.cli.jobs.state import attempts, progress
from hsae.cli.printing.output import cell, exact_cell

_FIELDS = (
    "id", "title", "state", "queue", "priority", "not_before", "outages", "owner", "key", "created_at", "started_at",
    "finished_at", "error",
)  # fmt: skip
_SILENT_AT_ZERO = {"priority", "outages"}
_LISTED = 8


def job_page(job: Mapping[str, Any], needed: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]) -> str:
    """The page of `job`; `needed` are the jobs it depends on (id, state, title), `events` its history."""
    lines = [
        f"{name.replace('_', ' '):<12} {cell(job[name])}"
        for name in _FIELDS
        if job[name] is not None and not (name in _SILENT_AT_ZERO and job[name] == 0)
    ]
    if job["attempt"]:
        lines.append(f"{'attempt':<12} {attempts(job)}")
    if job["gpu_memory_bytes"]:
        lines.append(f"{'GPU memory':<12} {decimal(job['gpu_memory_bytes'])} at most")
    if (done := progress(job)) is not None:
        note = f", {job['progress_note']}" if job["progress_note"] else ""
        lines.append(f"{'progress':<12} {done}{note}")
    if needed:
        lines.append("needs")
        lines += [f"  job {one['id']:<4}  {one['state']:<9}  {one['title']}" for one in needed]
    lines += _section("request", job["request"])
    lines += _section("result", job["result"])
    lines.append("history")
    lines += [
        f"  {cell(event['at'])}  {event['reason']:<13}  {event['state'] or '':<9}  {event['message']}  [{event['who']}]"
        for event in events
    ]
    return "\n".join(lines)


def _section(name: str, values: Mapping[str, Any] | None) -> list[str]:
    """A heading and a line for every value that is set; empty if none is."""
    found = list(_flat(values or {}))
    width = max((len(key) for key, _ in found), default=0)
    return [name, *(f"  {key:<{width}}  {value}" for key, value in found)] if found else []


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Every value with the path of its names, joined by dots."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
            more = f" and {len(value) - _LISTED} more" if len(value) > _LISTED else ""
            yield name, ", ".join(map(exact_cell, value[:_LISTED])) + more
        elif value is not None:
            yield name, exact_cell(value)
