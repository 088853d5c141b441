"""hsae-admin submit: ask for layers, get jobs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from hsae.cli.datasets.choice import choose_dataset, settle_dataset
from hsae.cli.datasets.report import Registration, print_registration
from hsae.cli.framework.completion import complete_datasets
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.sae_options import SAE_KIND, kind_options
from hsae.cli.jobs.skipped_images import print_skipped, skipped_json
from hsae.cli.printing.output import json_option, print_json
from hsae.cli.printing.plan_table import plan_json, print_former_study, print_outcome, print_plan, print_preview
from hsae.errors import ServiceError, UserError
from hsae.sae.variants import DEFAULT_KIND, VARIANTS, own_settings

if TYPE_CHECKING:
    from hsae.pipeline.planning.requests import SubmitRequest
    from hsae.pipeline.planning.submit import Plan, Preview

_BESIDE_SPEC = {"spec_file", "dry_run", "yes", "wait", "as_json", "priority"}


@click.command()
@click.option("--layer", "layer", type=int, multiple=True, help="0-based layer; may be given several times.")
@click.option("--layers", help="Layers as a list of numbers and ranges (0-3,8), or `all`.")
@click.option("--model", help="Backbone: hub id or local folder.  [default: HSAE_MODEL, facebook/dinov2-base]")
@click.option("--revision", help="Branch, tag or commit of a hub model.")
@click.option(
    "--dataset",
    help="Registered data set by its name, or a folder or CSV by its path (./train).  [default: the first registered]",
    shell_complete=complete_datasets,
)
@click.option("--tokens", type=click.Choice(["cls", "patches", "mean"]), default="cls", show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Stored type of the activations.",
)
@click.option(
    "--views",
    type=int,
    default=1,
    show_default=True,
    help="1 + augmented views per image, used as further training rows only.",
)
@click.option("--shard-images", type=click.IntRange(min=1), help="Images per shard.  [default: 1024; patches: 64]")
@click.option(
    "--sae",
    "kinds",
    type=SAE_KIND,
    multiple=True,
    default=[DEFAULT_KIND],
    show_default=True,
    help="SAE kind; may be given several times.",
)
@click.option("--expansion", type=int, help="Expansion factor n_latents / d_model.  [default: 8]")
@kind_options
@click.option("--steps", "n_steps", type=int, help="Training steps.  [default: from the number of rows]")
@click.option("--batch-size", type=int, help="Rows per training step.  [default: from the number of rows]")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the SAE and of the augmented views.")
@click.option("--threshold", type=float, default=0.0, show_default=True, help="A latent fires above this activation.")
@click.option(
    "--embeddings",
    default="last",
    show_default=True,
    help="What monosemanticity compares images by: class token of the last layer (last), the analysed layer (own), or"
    " an activation set of the same images (its number or key).",
)
@click.option("--priority", type=click.IntRange(0, 9), help="0 to 9; jobs of higher priority run first.  [default: 0]")
@click.option(
    "--spec",
    "spec_file",
    type=click.Path(path_type=Path),
    help="Study file (YAML) with layers and sweeps of SAEs, instead of the options above; shows the plan and asks.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be queued and what reused; enter nothing.")
@click.option("--yes", is_flag=True, help="With --spec: do not ask.")
@click.option("--wait", is_flag=True, help="Wait for the jobs, with live progress, then print the layer scores.")
@json_option
@pass_connections
@click.pass_context
def submit(
    ctx: click.Context,
    connections: Connections,
    /,
    spec_file: Path | None,
    dry_run: bool,
    yes: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Queue extraction, SAE training and hierarchy analysis of one or more layers.

    What exists already is reused; what is under way is joined.
    """
    from hsae.catalog import transaction
    from hsae.pipeline.planning.submit import check_model, preview
    from hsae.pipeline.planning.submit import submit as submit_request
    from hsae.pipeline.queue.jobs import not_rung

    if dry_run and wait:
        raise UserError("--dry-run enters nothing that --wait could wait for: leave one of them out")
    request = _request(connections, options) if spec_file is None else _request_of_spec(ctx, connections, spec_file)
    asks = spec_file is not None and not yes and not dry_run
    if asks and not sys.stdin.isatty():
        raise UserError("--spec asks before it queues, and there is no terminal to answer: add --yes, or --dry-run")
    if not dry_run:  # whatever can be refused is refused before anything is entered
        connections.doorbell, connections.store  # noqa: B018
    choice = choose_dataset(connections, options["dataset"] if spec_file is None else None)
    checked = check_model(request, connections.settings)
    registration = None
    if spec_file is None:
        name, registration = settle_dataset(connections, choice, register=not dry_run)
        request = request.model_copy(update={"dataset": name})
    if registration is not None and not as_json:
        print_registration(registration)
    shown = None
    if dry_run or spec_file is not None:
        shown = preview(request, connections.settings, connections.sessions, checked=checked)
        warnings = _warn(connections, request, shown)
        if dry_run and as_json:
            print_json(plan_json(shown) | {"warnings": warnings})
        else:
            print_preview(shown, err=as_json)
    if dry_run:
        if not as_json:
            same = "" if shown is None or shown.study_id is None else f"It is the request of study {shown.study_id}. "
            click.echo(f"\n{same}{shown.n_queued if shown else 0} jobs would be queued; nothing was entered.")
        return
    if asks and shown is not None and shown.n_queued and not _confirmed(shown.n_queued):
        click.echo("Nothing was queued.", err=True)
        ctx.exit(1)
    plan = submit_request(request, connections.settings, connections.sessions, checked=checked)
    if shown is None:
        warnings = _warn(connections, request, plan)
    try:
        connections.doorbell.ring(plan.to_ring)
    except ServiceError as error:
        with transaction(connections.sessions) as session:
            not_rung(session, plan.to_ring)
        click.echo(f"Warning: {error}", err=True)
    if as_json and not wait:
        _print_json(connections, plan, registration, warnings)
    elif as_json:
        pass  # printed when it is known which images were skipped
    elif shown is None:
        print_plan(plan)
    else:
        if plan.differs_from(shown):
            click.echo("\nOther submits or finished jobs changed the plan meanwhile; this was entered:")
            print_preview(plan)
        click.echo(f"\nStudy {plan.study_id}: {plan.name}")
        print_former_study(plan)
        print_outcome(plan)
    if wait:
        from hsae.cli.jobs.watch import wait_for_study

        try:
            wait_for_study(connections, plan.study_id, quiet=as_json)
        except UserError:  # of a job that failed; why may be among the skipped images
            if not as_json:
                print_skipped(connections, plan.study_id)
            raise
        finally:
            if as_json:
                _print_json(connections, plan, registration, warnings)
        if not as_json:
            from hsae.cli.results.listings import print_layers

            print_layers(connections, study_id=plan.study_id)
            print_skipped(connections, plan.study_id)


def _warn(connections: Connections, request: "SubmitRequest", plan: "Preview") -> list[str]:
    """Say what is likely to disappoint in the results."""
    from hsae.catalog import Dataset, transaction
    from hsae.pipeline.planning.training_rows import few_rows_warning

    with transaction(connections.sessions) as session:
        n_images = session.get_one(Dataset, plan.dataset.id).n_images
    warning = few_rows_warning(request, plan.model, n_images)
    if warning is None:
        return []
    click.echo(f"Warning: {warning}.", err=True)
    return [warning]


def _print_json(connections: Connections, plan: "Plan", registration: Registration | None, warnings: list[str]) -> None:
    print_json(
        plan_json(plan)
        | {
            "registered": None if registration is None else registration.as_json(),
            "skipped": skipped_json(connections, plan.study_id),
            "warnings": warnings,
        }
    )


def _confirmed(n_jobs: int) -> bool:
    return click.confirm(f"\nQueue {n_jobs} {'job' if n_jobs == 1 else 'jobs'}?", err=True)


def chosen_layers(layer: tuple[int, ...], layers: str | None) -> "tuple[int, ...] | Literal['all']":
    """The layers asked for by `--layer` and `--layers`.

    Raises:
        UserError: when none is given or the list cannot be read.
    """
    from hsae.pipeline.planning.study_file import parse_layers

    try:
        listed = parse_layers(layers or "")
    except UserError as error:
        raise UserError(f"--layers {error}") from error
    if listed == "all":
        return "all"
    chosen = {*layer, *listed}
    if not chosen:
        raise UserError("no layer is given: add --layer 8, --layers 0-3,8, --layers all, or --spec study.yaml")
    return tuple(sorted(chosen))


def _request_of_spec(ctx: click.Context, connections: Connections, path: Path) -> "SubmitRequest":
    from hsae.pipeline.planning.study_file import read_spec

    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name not in _BESIDE_SPEC:
            raise UserError(f"{parameter.opts[0]} cannot be given with --spec: write it into {path}")
    spec = read_spec(path)
    priority = ctx.params["priority"]
    if None not in (priority, spec.priority) and priority != spec.priority:
        raise UserError(f"--priority {priority} contradicts the priority {spec.priority} of {path}: leave one out")
    return spec.request(connections.settings, folder=path.resolve().parent, priority=priority)


def _request(connections: Connections, options: dict[str, Any]) -> "SubmitRequest":
    from pydantic import ValidationError

    from hsae.extraction.config import complete_extraction
    from hsae.hierarchy.config import ScoringConfig
    from hsae.pipeline.planning.requests import SubmitRequest
    from hsae.pydantic_errors import one_line
    from hsae.sae.config import SaeConfig

    layers = chosen_layers(options["layer"], options["layers"])
    tuned = ("expansion", *own_settings(), "n_steps", "batch_size", "learning_rate", "seed")
    given = {name: options[name] for name in tuned if options.get(name) is not None}
    kinds = tuple(dict.fromkeys(options["kinds"]))
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
                "n_views": options["views"],
                # Only the augmented views need a seed: another one must not extract the plain images anew.
                "seed": options["seed"] if options["views"] > 1 else 0,
            }
            | ({"shard_images": options["shard_images"]} if options["shard_images"] else {}),
            connections.settings,
        )
        scoring = ScoringConfig(threshold=options["threshold"], embeddings=options["embeddings"])
    except ValidationError as error:
        raise UserError(one_line(error, lambda it: f"{it.place} = {it.value!r}: {it.reason}")) from error
    return SubmitRequest(
        model=options["model"] or connections.settings.model,
        revision=options["revision"],
        layers=layers,
        saes=saes,
        extraction=extraction,
        scoring=scoring,
        priority=options["priority"] or 0,
    )
