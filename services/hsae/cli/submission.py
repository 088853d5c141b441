"""The request that the options of `submit` make, and what it prints and asks at each step after that."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource
from pydantic import ValidationError

from hsae.backbones.hooks.names import EMBEDDING, is_path
from hsae.cli.framework.connections import Connections
from hsae.cli.framework.notifying import notify_workers
from hsae.cli.jobs.progress import wait_for_study
from hsae.cli.jobs.skipped_images import skipped_json
from hsae.cli.jobs.watch import watch_study
from hsae.cli.printing.output import print_json
from hsae.cli.printing.plan_table import plan_json, print_former_study, print_outcome, print_plan, print_preview
from hsae.cli.results.layers import print_layers
from hsae.errors import UserError
from hsae.extraction.config import DropAfter, chosen_precision, complete_extraction
from hsae.frozen_model import FrozenModel
from hsae.hierarchy.config import ScoringConfig
from hsae.interventions.config import NEEDED
from hsae.pipeline.planning.layer_list import parse_layers
from hsae.pipeline.planning.requests import SubmitRequest, with_seeds
from hsae.pipeline.planning.study_file import read_block, read_spec
from hsae.pipeline.planning.submit import Plan, Preview, preview, submit
from hsae.pipeline.submission.steps import Prepared, plan_warnings, prepare
from hsae.pydantic_errors import one_line
from hsae.relevancy.config import MapSettings
from hsae.sae.config import SaeConfig
from hsae.sae.variants import VARIANTS, own_settings
from hsae.split_config import parse_split
from hsae.text.config import WORDNET, NameSettings

if TYPE_CHECKING:
    from hsae.pipeline.submission.registration import Registration

_BESIDE_SPEC = {"spec_file", "dry_run", "yes", "wait", "as_json", "priority", "keep", "drop_after"}
_REGISTERED = {"dataset": "registered", "score_dataset": "score_registered"}


def chosen_layers(
    layer: tuple[int, ...], layers: str | None, *, may_be_none: bool = False
) -> tuple[int, ...] | Literal["all"]:
    """The layers given by `--layer` and `--layers`; none if that is allowed, as where a hook point names its layer.

    Raises:
        UserError: none is given, or the list cannot be read.
    """
    try:
        listed = parse_layers(layers or "")
    except UserError as error:
        raise UserError(f"--layers {error}") from error
    if listed == "all":
        return "all"
    chosen = {*layer, *listed}
    if not chosen and not may_be_none:
        raise UserError("no layer is given: add --layer 8, --layers 0-3,8, --layers all, or --spec study.yaml")
    return tuple(sorted(chosen))


def request_of_spec(ctx: click.Context, connections: Connections, path: Path) -> SubmitRequest:
    """The request of a study file.

    Raises:
        UserError: the file is not valid, or an option contradicts it.
    """
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name not in _BESIDE_SPEC:
            raise UserError(f"{parameter.opts[0]} cannot be given with --spec: write it into {path}")
    spec = read_spec(path)
    priority = ctx.params["priority"]
    if None not in (priority, spec.priority) and priority != spec.priority:
        raise UserError(f"--priority {priority} contradicts the priority {spec.priority} of {path}: leave one out")
    request = spec.request(connections.settings, folder=path.resolve().parent, priority=priority)
    keep, drop_after = ctx.params["keep"], ctx.params["drop_after"]
    if keep or drop_after:
        request = request.model_copy(update={"drop_after": dropped_after(keep=keep, drop_after=drop_after)})
    return request


def dropped_after(*, keep: bool, drop_after: DropAfter | None) -> DropAfter | None:
    """After which jobs the activations are deleted, by `--keep` and `--drop-after`; None: they are kept.

    Raises:
        UserError: both are given.
    """
    if keep and drop_after is not None:
        raise UserError(f"--keep contradicts --drop-after {drop_after}: leave one of them out")
    return drop_after


def request_of_options(connections: Connections, options: dict[str, Any]) -> SubmitRequest:
    """The request of the options of `submit`.

    Raises:
        UserError: options contradict each other, or have values that cannot be.
    """
    names_layer = options["hook"] == EMBEDDING or is_path(options["hook"])
    layers = chosen_layers(options["layer"], options["layers"], may_be_none=names_layer)
    if options["sae_from"] and not options["trains"]:
        options = options | {"kinds": ()}
    tuned = ("expansion", *own_settings(), "n_steps", "batch_size", "learning_rate", "rows", "seed")
    given = {name: options[name] for name in tuned if options.get(name) is not None}
    kinds = tuple(dict.fromkeys(options["kinds"]))
    if not kinds and set(given) - {"seed"}:
        name = next(name for name in given if name != "seed")
        raise UserError(f"{name} is a setting of a training, and --sae-from trains nothing: add --sae, or leave it out")
    own = {kind: VARIANTS[kind].settings() for kind in kinds}
    # Of several kinds each takes what applies to it; what applies to none of them is refused.
    foreign = {kind: {name for other in kinds for name in own[other]} - set(own[kind]) for kind in kinds}
    try:
        saes = tuple(
            SaeConfig(kind=kind, **{name: value for name, value in given.items() if name not in foreign[kind]})
            for kind in kinds
        )
        extraction = complete_extraction(
            {
                "tokens": options["tokens"],
                "dtype": options["dtype"],
                "precision": chosen_precision(options["compute_dtype"], options["dtype"]),
                "n_views": options["views"],
                # Only what is drawn needs a seed: another one must not extract the plain images anew.
                "seed": options["seed"] if options["views"] > 1 or options["patches_per_image"] else 0,
                "hook": options["hook"],
                "patches_per_image": options["patches_per_image"],
                "decode": options["decode"],
            }
            | {name: options[name] for name in ("shard_images", "part_images") if options[name]},
            max_image_pixels=connections.settings.max_image_pixels,
        )
        scoring = ScoringConfig(threshold=options["threshold"], embeddings=options["embeddings"])
        split = parse_split(options["split"])
    except ValidationError as error:
        raise UserError(one_line(error, lambda it: f"{it.place} = {it.value!r}: {it.reason}")) from error
    own_of_stages: dict[str, FrozenModel] = {}
    if options["maps"]:
        own_of_stages["map"] = MapSettings(latents=options["maps"])
    if options["interventions"] is not None:
        own_of_stages["intervene"] = read_block(options["interventions"], "intervene", needed=NEEDED)
    if options["name_by"]:
        own_of_stages["names"] = NameSettings(by=options["name_by"], vocabulary=options["vocabulary"] or WORDNET)
    elif options["vocabulary"]:
        raise UserError("--vocabulary says how latents are named: add --name-by MODEL, or leave it out")
    return SubmitRequest(
        model=options["model"] or connections.settings.model,
        revision=options["revision"],
        random_init=options["random_init"],
        layers=layers,
        saes=with_seeds(saes, options["seeds"]),
        sae_from=options["sae_from"],
        extraction=extraction,
        scoring=scoring,
        split=split,
        cross_fit=options["cross_fit"],
        own=own_of_stages,
        drop_after=dropped_after(keep=options["keep"], drop_after=options["drop_after"]),
        priority=options["priority"] or 0,
    )


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
    warnings = plan_warnings(connections, prepared, plan)
    for warning in warnings:
        click.echo(f"Warning: {warning}.", err=True)
    return warnings


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
