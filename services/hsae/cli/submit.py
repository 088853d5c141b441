"""hsae-admin submit: ask for layers, get jobs."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from sqlalchemy import select

from hsae.cli.connections import Connections, pass_connections
from hsae.cli.output import json_option, print_json
from hsae.errors import ServiceError, UserError

if TYPE_CHECKING:
    from hsae.pipeline.plan import Plan
    from hsae.pipeline.requests import SubmitRequest

_STATUS = {
    "new": "queued",
    "again": "queued again",
    "joined": "already under way",
    "reused": "reused",
}


@click.command()
@click.option("--layer", "layer", type=int, multiple=True, help="0-based layer; may be given several times.")
@click.option("--layers", help="Layers as a list of numbers and ranges (0-3,8), or `all`.")
@click.option("--model", help="Backbone: hub id or local folder.  [default: HSAE_MODEL, facebook/dinov2-base]")
@click.option("--revision", help="Branch, tag or commit of a hub model.")
@click.option("--dataset", help="Registered data set, or a folder or CSV to register.  [default: the first registered]")
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
    type=click.Choice(["relu", "topk"]),
    multiple=True,
    default=["relu"],
    show_default=True,
    help="SAE kind; may be given several times.",
)
@click.option("--expansion", type=int, help="Expansion factor n_latents / d_model.  [default: 8]")
@click.option("--k", type=int, help="Firing latents per row of a TopK SAE.  [default: 32]")
@click.option("--l1", "l1_coefficient", type=float, help="L1 coefficient of a ReLU SAE.")
@click.option("--steps", "n_steps", type=int, help="Training steps.  [default: from the number of rows]")
@click.option("--batch-size", type=int, help="Rows per training step.  [default: from the number of rows]")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the SAE and of the augmented views.")
@click.option("--threshold", type=float, default=0.0, show_default=True, help="A latent fires above this activation.")
@click.option("--wait", is_flag=True, help="Wait for the jobs, with live progress, then print the layer scores.")
@json_option
@pass_connections
def submit(connections: Connections, /, wait: bool, as_json: bool, **options: Any) -> None:
    """Queue extraction, SAE training and hierarchy analysis of one or more layers.

    What exists already is reused; what is under way is joined.
    """
    from hsae.pipeline.plan import check_model
    from hsae.pipeline.plan import submit as submit_request

    # Whatever can be refused is refused before anything is entered.
    connections.doorbell, connections.store  # noqa: B018
    request = _request(connections, options)
    checked = check_model(request, connections.settings)
    request = request.model_copy(update={"dataset": _dataset_name(connections, options["dataset"])})
    plan = submit_request(request, connections.settings, connections.sessions, checked=checked)
    try:
        connections.doorbell.ring(plan.to_ring)
    except ServiceError as error:
        click.echo(f"Warning: {error}", err=True)
    if as_json:
        print_json(plan_json(plan))
    else:
        print_plan(plan)
    if wait:
        from hsae.cli.watch import wait_for_study

        wait_for_study(connections, plan.study_id, quiet=as_json)
        if not as_json:
            from hsae.cli.results import print_layers

            print_layers(connections, study_id=plan.study_id)


def parse_layers(layer: tuple[int, ...], layers: str | None) -> tuple[int, ...] | str:
    """The layers asked for by `--layer` and `--layers`.

    Raises:
        UserError: when none is given or the list cannot be read.
    """
    if layers is not None and layers.strip().lower() == "all":
        return "all"
    chosen = set(layer)
    for part in (layers or "").split(","):
        if not part.strip():
            continue
        first, dash, last = part.strip().partition("-")
        numbers = (first, last) if dash else (first,)
        sound = all(re.fullmatch(r"[0-9]{1,4}", text) for text in numbers)
        if not sound or (dash and int(first) > int(last)):
            raise UserError(
                f"--layers {layers} cannot be read at {part!r}: write numbers and ranges such as 0-3,8, or all"
            )
        chosen |= set(range(int(first), int(last if dash else first) + 1))
    if not chosen:
        raise UserError("no layer is given: add --layer 8, --layers 0-3,8 or --layers all")
    return tuple(sorted(chosen))


def _request(connections: Connections, options: dict[str, Any]) -> "SubmitRequest":
    from pydantic import ValidationError

    from hsae.pipeline.requests import ExtractionConfig, ScoringConfig, SubmitRequest
    from hsae.sae import SaeConfig

    layers = parse_layers(options["layer"], options["layers"])
    tuned = ("expansion", "k", "l1_coefficient", "n_steps", "batch_size", "learning_rate", "seed")
    given = {name: options[name] for name in tuned if options[name] is not None}
    kinds = tuple(dict.fromkeys(options["kinds"]))
    if len(kinds) == 2:  # each kind takes what applies to it
        own = {"relu": {"l1_coefficient"}, "topk": {"k"}}
        foreign = {"relu": own["topk"], "topk": own["relu"]}
    else:
        foreign = {kind: set() for kind in kinds}
    try:
        saes = tuple(
            SaeConfig(kind=kind, **{name: value for name, value in given.items() if name not in foreign[kind]})
            for kind in kinds
        )
        extraction = ExtractionConfig(
            tokens=options["tokens"],
            dtype=options["dtype"],
            n_views=options["views"],
            shard_images=options["shard_images"] or (64 if options["tokens"] == "patches" else 1024),
            # Only the augmented views need a seed: another one must not extract the plain images anew.
            seed=options["seed"] if options["views"] > 1 else 0,
            max_image_pixels=connections.settings.max_image_pixels,
        )
        scoring = ScoringConfig(threshold=options["threshold"])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=True)[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))} = {first['input']!r}: {first['msg']}") from error
    return SubmitRequest(
        model=options["model"] or connections.settings.model,
        revision=options["revision"],
        layers=layers,
        saes=saes,
        extraction=extraction,
        scoring=scoring,
    )


def _dataset_name(connections: Connections, given: str | None) -> str | None:
    """The data set's name; a folder or CSV that is not registered yet is registered under its own name."""
    if given is None:
        return None
    from hsae.catalog import Dataset, transaction
    from hsae.cli.dataset import add_dataset

    with transaction(connections.sessions) as session:
        known = session.execute(select(Dataset.id).where(Dataset.name == given)).scalar_one_or_none()
    path = Path(given)
    if known is not None or not path.exists():
        return given
    row, _ = add_dataset(connections, path.resolve().stem, path)
    return str(row.name)


def print_plan(plan: "Plan") -> None:
    """Say what was queued, what is reused, and how to watch it."""
    from hsae.catalog.names import short_model_name

    layers = ", ".join(map(str, plan.layers))
    click.echo(f"Study {plan.study_id}: {short_model_name(plan.model.name)}, layer {layers}, on {plan.dataset.name}")
    for job in plan.jobs:
        click.echo(f"  job {job.id:>4}  {_STATUS[job.status]:<18} {job.title}")
    n_queued = sum(job.status in {"new", "again"} for job in plan.jobs)
    click.echo(f"{n_queued} jobs queued, {len(plan.jobs) - n_queued} reused or already under way.")
    click.echo(
        f"Watch with `hsae-admin jobs watch {plan.study_id}`; then `hsae-admin results layers --study {plan.study_id}`."
    )


def plan_json(plan: "Plan") -> dict[str, Any]:
    """The plan as JSON."""
    return {
        "study": plan.study_id,
        "model": plan.model.name,
        "revision": plan.model.revision,
        "dataset": plan.dataset.name,
        "layers": list(plan.layers),
        "jobs": [
            {"id": job.id, "kind": job.kind, "title": job.title, "status": job.status, "state": job.state}
            for job in plan.jobs
        ],
    }
