"""What `submit` prints and asks at each step after its options are read."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from hsae.cli.framework.connections import Connections
from hsae.cli.framework.notifying import notify_workers
from hsae.cli.jobs.progress import wait_for_study
from hsae.cli.jobs.skipped_images import skipped_json
from hsae.cli.jobs.watch import watch_study
from hsae.cli.printing.output import print_json
from hsae.cli.printing.plan_table import plan_json, print_former_study, print_outcome, print_plan, print_preview
from hsae.cli.results.layers import print_layers
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.pipeline.planning.submit import Plan, Preview, preview, submit
from hsae.pipeline.submission.steps import Prepared, prepare, rows_warning

if TYPE_CHECKING:
    from hsae.pipeline.submission.registration import Registration

_REGISTERED = {"dataset": "registered", "score_dataset": "score_registered"}


@dataclass(frozen=True, slots=True)
class Manner:
    """How a request is submitted.

    Attributes:
        from_file: whether a study file made the request; it then has the data set's name, and the plan is shown first.
        asks: whether a person must confirm before anything is queued.
        dry_run: whether the plan is only shown.
        wait: whether to wait for the jobs and then print the layer scores.
        as_json: whether to print JSON for programs.
    """

    from_file: bool
    asks: bool
    dry_run: bool
    wait: bool
    as_json: bool


def submit_request(
    connections: Connections,
    request: SubmitRequest,
    manner: Manner,
    *,
    given: tuple[str | None, str | None] = (None, None),
) -> bool:
    """Submit a request.

    Args:
        connections: the service.
        request: the request; its data sets are found here unless a study file named them.
        manner: how to submit it.
        given: the options `--dataset` and `--score-dataset`: each a registered name, or the path of a folder or CSV.
            None: the default, and no other one that is scored.

    Returns:
        False if a person was asked and declined, otherwise True.

    Raises:
        UserError: the request is not possible (nothing is entered then); or a job failed that was waited for.
    """
    registered: dict[str, Any] = {}

    def on_registered(field: str, registration: "Registration") -> None:
        # scipy and pyarrow come with it, half a second: a submit of a registered data set does without.
        from hsae.cli.datasets.report import print_registration, registration_json

        registered[_REGISTERED[field]] = registration_json(registration)
        if not manner.as_json:
            print_registration(registration)

    prepared = prepare(
        connections,
        request,
        None if manner.from_file else given,
        register=not manner.dry_run,
        on_registered=on_registered,
    )
    request, notes = prepared.request, prepared.notes
    shown = None
    warnings: list[str] = []
    if manner.dry_run or manner.from_file:
        shown = preview(
            request,
            connections.settings,
            connections.sessions,
            checked=prepared.checked,
            is_halved=prepared.is_halved,
        )
        warnings = _warn(connections, prepared, shown)
        if manner.dry_run and manner.as_json:
            print_json(plan_json(shown) | {"warnings": warnings, "notes": notes})
        else:
            print_preview(shown, err=manner.as_json)
    if manner.dry_run:
        if shown is not None and not manner.as_json:
            same = "" if shown.study_id is None else f"It is the request of study {shown.study_id}. "
            click.echo(f"\n{same}{shown.n_queued} jobs would be queued; nothing was entered.")
        return True
    if manner.asks and shown is not None and shown.n_queued and not _confirmed(shown.n_queued):
        click.echo("Nothing was queued.", err=True)
        return False
    plan = submit(
        request, connections.settings, connections.sessions, checked=prepared.checked, is_halved=prepared.is_halved
    )
    if shown is None:
        warnings = _warn(connections, prepared, plan)
    notify_workers(connections, plan.to_notify)
    if not manner.as_json:
        _print_entered(plan, shown)
        if manner.wait:
            watch_study(connections, plan.study_id, then=lambda: print_layers(connections, study_id=plan.study_id))
        return True
    try:
        if manner.wait:
            wait_for_study(connections, plan.study_id, quiet=True)
    finally:  # after the wait, for only then it is known which images were skipped
        further = {"registered": None} | registered | skipped_json(connections, plan.study_id)
        print_json(plan_json(plan) | further | {"warnings": warnings, "notes": notes})
    return True


def _warn(connections: Connections, prepared: Prepared, plan: Preview) -> list[str]:
    """Print what the split means for this data set, and print and return warnings about likely weak results."""
    for note in prepared.notes:
        click.echo(f"Note: {note}.", err=True)
    warning = rows_warning(connections, prepared, plan)
    if warning is None:
        return []
    click.echo(f"Warning: {warning}.", err=True)
    return [warning]


def _confirmed(n_jobs: int) -> bool:
    return click.confirm(f"\nQueue {n_jobs} {'job' if n_jobs == 1 else 'jobs'}?", err=True)


def _print_entered(plan: Plan, shown: Preview | None) -> None:
    """Print what was entered; if the plan was `shown` before, only what is new."""
    if shown is None:
        print_plan(plan)
        return
    if plan.differs_from(shown):
        click.echo("\nOther submits or finished jobs changed the plan meanwhile; this was entered:")
        print_preview(plan)
    click.echo(f"\nStudy {plan.study_id}: {plan.name}")
    print_former_study(plan)
    print_outcome(plan)
