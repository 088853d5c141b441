"""The steps of `submit` after its options are read: find the data set, show the plan, enter it, wait for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from hsae.catalog import Dataset, transaction
from hsae.cli.datasets.choice import settle_dataset
from hsae.cli.datasets.choices import DatasetChoices, choose_datasets
from hsae.cli.framework.connections import Connections
from hsae.cli.framework.notifying import notify_workers
from hsae.cli.jobs.progress import wait_for_study
from hsae.cli.jobs.skipped_images import skipped_json
from hsae.cli.jobs.watch import watch_study
from hsae.cli.printing.output import print_json
from hsae.cli.printing.plan_table import plan_json, print_former_study, print_outcome, print_plan, print_preview
from hsae.cli.results.layers import print_layers
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.planning.embeddings import require_set
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.pipeline.planning.score_dataset import find_datasets
from hsae.pipeline.planning.submit import Plan, Preview, check_model, preview, submit
from hsae.pipeline.planning.training_rows import few_rows_warning
from hsae.split_config import ScoreSplit

if TYPE_CHECKING:
    from hsae.datasets.split import ImageSplit


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
    if not manner.dry_run:  # whatever can be refused is refused before anything is entered
        connections.notifier, connections.store  # noqa: B018
    choices = None
    if manner.from_file:
        with transaction(connections.sessions) as session:
            find_datasets(session, request.dataset, request.score_dataset, request.split)
    else:
        choices = choose_datasets(connections, given, request.split, register=not manner.dry_run)
    with transaction(connections.sessions) as session:
        require_set(session, request.scoring.embeddings)
    checked = check_model(request, connections.settings)
    registered: dict[str, Any] = {}
    if choices is not None:
        request, registered = _settled(connections, request, manner, choices)
    split, notes = _split(connections, request)
    is_halved = split is not None and split.is_halved
    shown = None
    warnings = []
    if manner.dry_run or manner.from_file:
        shown = preview(request, connections.settings, connections.sessions, checked=checked, is_halved=is_halved)
        warnings = _warn(connections, request, shown, split, notes)
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
    plan = submit(request, connections.settings, connections.sessions, checked=checked, is_halved=is_halved)
    if shown is None:
        warnings = _warn(connections, request, plan, split, notes)
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


def _settled(
    connections: Connections, request: SubmitRequest, manner: Manner, choices: DatasetChoices
) -> tuple[SubmitRequest, dict[str, Any]]:
    """The request with the names of its data sets, and what was registered for it, as JSON."""
    registered = {}
    for field, said_as, choice in (
        ("dataset", "registered", choices.trains),
        ("score_dataset", "score_registered", choices.scores),
    ):
        if choice is None:
            continue
        name, registration = settle_dataset(connections, choice, register=not manner.dry_run)
        request = request.model_copy(update={field: name})
        if registration is not None:
            registered[said_as] = registration.as_json()
            if not manner.as_json:
                # scipy and pyarrow come with it, half a second: a submit of a registered data set does without.
                from hsae.cli.datasets.report import print_registration

                print_registration(registration)
    return request, registered


def _split(connections: Connections, request: SubmitRequest) -> "tuple[ImageSplit | None, list[str]]":
    """The parts of the scored images, None in-sample; and what a user should know of them.

    Raises:
        UserError: the images cannot be split, or the data sets cannot be used together.
    """
    with transaction(connections.sessions) as session:
        found = find_datasets(session, request.dataset, request.score_dataset, request.split)
        dataset, scored = (None if row is None else dataset_ref(row) for row in found)
    if request.split is None or dataset is None:
        return None, []
    # pyarrow comes with it, a third of a second: what is refused before does without.
    from hsae.pipeline.inputs.image_split import read_split, read_split_apart

    if scored is None:
        split = read_split(connections.store, dataset, request.split)
        is_cross_fitted = len(request.splits(is_halved=split.is_halved)) > 1
        return split, list(split.notes(cross_fitted=is_cross_fitted))
    return read_split_apart(connections.store, dataset, scored, ScoreSplit.of(request.split))


def _warn(
    connections: Connections,
    request: SubmitRequest,
    plan: Preview,
    split: "ImageSplit | None",
    notes: Sequence[str],
) -> list[str]:
    """Print what the split means for this data set, and print and return warnings about likely weak results."""
    if split is None or not split.trains:
        with transaction(connections.sessions) as session:
            n_images = session.get_one(Dataset, plan.dataset.id).n_images
    else:
        n_images = int(split.train.sum())
    for note in notes:
        click.echo(f"Note: {note}.", err=True)
    warning = few_rows_warning(request, plan.model, n_images)
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
