"""State, attempts and duration of a job as the command line prints them."""

from collections.abc import Mapping
from typing import Any


def state(job: dict[str, Any]) -> str:
    """The job's state; if it waits for another attempt, with the time."""
    if job["pause_seconds"] is not None:
        return f"again in {duration(job['pause_seconds'])}"
    return str(job["state"])


def attempts(job: Mapping[str, Any]) -> str | None:
    """The number of the attempt, of how many, and how many did not count because a service was down."""
    if not job["attempt"] and not job["outages"]:
        return None
    text = f"{job['attempt']}/{job['max_attempts']}"
    return f"{text} (+{job['outages']} outages)" if job["outages"] else text


def duration(seconds: float | None) -> str:
    """Seconds in a form for people."""
    if seconds is None:
        return "-"
    whole = round(float(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def progress(job: Mapping[str, Any]) -> str | None:
    """How far a job is: `3/10 images`; None before it says."""
    return f"{job['progress_done']}/{job['progress_total']} {job['progress_unit']}" if job["progress_total"] else None
