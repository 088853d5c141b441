"""A submit from a notebook, and the wait for its jobs."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from hsae.api.frames import frame, html_table
from hsae.api.service.study import Study
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.planning.study_file import spec_of
from hsae.pipeline.planning.submit import Plan, submit
from hsae.pipeline.submission.notifying import notify_of_queued
from hsae.pipeline.submission.steps import plan_warnings, prepare
from hsae.pipeline.submission.waiting import is_busy, raise_failure, study_jobs, unattended_queues, wait_for_jobs
from hsae.sae.config import SaeConfig
from hsae.sae.variants import DEFAULT_KIND

if TYPE_CHECKING:
    import pandas as pd

Saes = str | SaeConfig | dict[str, Any] | Sequence[str | SaeConfig | dict[str, Any]]
"""Kinds of SAE, their configs, or blocks of a study file such as {"kind": "topk", "k": [16, 32]}; one or several."""
Row = dict[str, Any]
_COLUMNS = ("job", "title", "state", "progress", "error")


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """A study that was submitted.

    Attributes:
        connections: the service.
        plan: what was queued, joined or reused.
        notes: what to know of the images' split, a sentence each; and warnings about likely weak results.
    """

    connections: Connections
    plan: Plan
    notes: tuple[str, ...]

    @property
    def study(self) -> Study:
        """The study; its results appear as its jobs succeed."""
        return Study(self.connections, self.plan.study_id, self.plan.name)

    def jobs(self) -> "pd.DataFrame":
        """The study's jobs as they are now, oldest first.

        Raises:
            UserError: pandas is not installed.
        """
        return frame([_job(row) for row in study_jobs(self.connections, self.plan.study_id)], _COLUMNS)

    def wait(self, *, on_look: Callable[[Sequence[Row]], object] = lambda jobs: None) -> Study:
        """Wait until no job is left to do. Ctrl-C ends the wait, not the jobs.

        Args:
            on_look: called with the jobs twice a second; may raise to stop waiting.

        Returns:
            The study with its results.

        Raises:
            UserError: a job failed or was cancelled; the message is the job's.
        """
        jobs = study_jobs(self.connections, self.plan.study_id)
        if is_busy(jobs):
            for queue in unattended_queues(self.connections, jobs):
                warnings.warn(
                    f"no worker listens to queue {queue}: start one with `hsae-admin worker --queue {queue}` (or"
                    " `hsae-admin up`); waiting for it",
                    stacklevel=2,
                )
        raise_failure(wait_for_jobs(self.connections, self.plan.study_id, on_look=on_look))
        return self.study

    def _repr_html_(self) -> str:
        jobs = [_job(row) for row in study_jobs(self.connections, self.plan.study_id)]
        notes = "".join(f"<div>{escape(note)}</div>" for note in self.notes)
        return html_table(repr(self)[1:-1], jobs, {name: name for name in _COLUMNS}) + notes

    def __repr__(self) -> str:
        n_reused = sum(job.status == "reused" for job in self.plan.jobs)
        return (
            f"<Submission: study {self.plan.study_id} ({self.plan.name}), {self.plan.n_queued} jobs queued,"
            f" {n_reused} artifacts reused>"
        )


def submit_study(connections: Connections, saes: Saes | None, fields: dict[str, Any]) -> Submission:
    """Submit by the steps of `hsae-admin submit`.

    Args:
        connections: the service.
        saes: the SAEs of every layer; None: those of `sae_from` alone, or one of the default kind.
        fields: further fields of a study file; those that are None are left out, but for `split`, of which None means
            none. A data set is a registered name or the path of a folder or CSV.

    Raises:
        UserError: the request is not possible; nothing is entered then.
    """
    given = (fields.pop("dataset", None), fields.pop("score_dataset", None))
    content = {name: value for name, value in fields.items() if value is not None}
    if "split" in fields and fields["split"] is None:
        content["split"] = "none"
    if saes is None and not content.get("sae_from"):
        saes = DEFAULT_KIND
    if saes is not None:
        content["saes"] = _blocks(saes)
    request = spec_of(content).request(connections.settings)
    prepared = prepare(connections, request, given)
    plan = submit(
        prepared.request,
        connections.settings,
        connections.sessions,
        checked=prepared.checked,
        is_halved=prepared.is_halved,
    )
    notes = [
        *prepared.notes,
        *plan_warnings(connections, prepared, plan),
        notify_of_queued(connections, plan.to_notify),
    ]
    return Submission(connections, plan, tuple(note for note in notes if note is not None))


def _blocks(saes: Saes) -> list[Any]:
    return [_block(one) for one in ([saes] if isinstance(saes, str | SaeConfig | dict) else saes)]


def _block(sae: Any) -> Any:
    if isinstance(sae, str):
        return {"kind": sae}
    if isinstance(sae, SaeConfig) and sae.imported is not None:
        raise UserError(f"{sae.imported.name} is trained already: give its name or path in sae_from")
    return sae.model_dump(exclude_none=True) if isinstance(sae, SaeConfig) else sae


def _job(row: Row) -> Row:
    done = f"{row['progress_done']}/{row['progress_total']} {row['progress_unit']}" if row["progress_total"] else None
    kept = ("kind", "queue", "priority", "attempt", "started_at", "finished_at")
    shown = {"job": row["id"], "title": row["title"], "state": row["state"], "progress": done, "error": row["error"]}
    return shown | {name: row[name] for name in kept}
