"""The plan of a submit, for people and as JSON."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import click
from rich.filesize import decimal

from hsae.backbones.names import short_model_name
from hsae.cli.printing.output import console, table
from hsae.pipeline.estimate import NOTHING, Estimate
from hsae.pipeline.kinds.registry import stages
from hsae.pipeline.kinds.setting_labels import sae_label
from hsae.pipeline.planning.submit import Plan, Preview
from hsae.report.ranges import ranges

_STATUS = {
    "new": "queued",
    "again": "queued again",
    "joined": "already under way",
    "reused": "reused",
}
_COLUMNS = {"new": "new", "again": "queued again", "joined": "under way", "reused": "reused"}
_LISTED_JOBS = 40
# What an H100 reaches of its 989 in bfloat16 at 40 %, as in docs/scale.md.
_GPU_TERAFLOP = 400


def print_preview(preview: Preview, *, err: bool = False) -> None:
    """Print which jobs would be made and which exist: by kind, then by SAE and layer."""
    n_saes = len({job.sae for job in preview.jobs if job.sae is not None})
    click.echo(
        f"{short_model_name(preview.model.name)}, {_layers(preview.layers)}, on {_where(preview)};"
        f" {n_saes} {'SAE' if n_saes == 1 else 'SAEs'} per layer",
        err=err,
    )
    click.echo(f"monosemanticity by {preview.embeddings}", err=err)
    counts: Counter[tuple[str, str]] = Counter((job.kind, job.status) for job in preview.jobs)
    rows: list[dict[str, Any]] = [
        {"kind": stage.kind} | {status: counts[stage.kind, status] for status in _COLUMNS} for stage in stages()
    ]
    out = console(err=err)
    out.print(table(rows, {"kind": "jobs"} | _COLUMNS))
    click.echo(err=err)
    is_imported = any(job.sae is not None and job.sae.imported is not None for job in preview.jobs)
    made = "train or import" if is_imported else "train"
    out.print(table(_by_sae(preview), {"sae": "SAE", "layers": "layers", "train": made, "analyze": "analyze"}))
    for line in _estimated(_estimates(preview)):
        click.echo(line, err=err)
    _print_dropping(preview, err=err)


def _print_dropping(preview: Preview, *, err: bool = False) -> None:
    """Print what becomes of the activations, if they are not kept."""
    if preview.drop_after is not None:
        click.echo(
            "Activations are deleted once every job that reads them has succeeded, unless another study keeps them.",
            err=err,
        )


def _estimates(preview: Preview) -> dict[str, Estimate]:
    """By kind of job what its new jobs will take, as far as that is estimated."""
    found: dict[str, Estimate] = {}
    for job in preview.jobs:
        found[job.kind] = found.get(job.kind, NOTHING) + job.estimate
    return {kind: estimate for kind, estimate in found.items() if estimate != NOTHING}


def _estimated(estimates: Mapping[str, Estimate]) -> Iterator[str]:
    """Lines for people."""
    stored = [
        f"{decimal(one.n_bytes)} by {kind} ({one.n_objects:,} {'object' if one.n_objects == 1 else 'objects'})"
        for kind, one in estimates.items()
        if one.n_bytes
    ]
    if not stored:
        return
    total = sum(estimates.values(), NOTHING)
    yield f"New in the object store, about: {', '.join(stored)}; in Postgres {total.n_rows:,} rows."
    times = []
    if total.teraflop:
        hours = total.teraflop / _GPU_TERAFLOP / 3600
        times.append(f"{hours:.1g} GPU hours of passes over images, at {_GPU_TERAFLOP} TFLOP/s")
    if total.cpu_minutes:
        times.append(f"{total.cpu_minutes / 60:.1g} hours of analyses on two cores, one after the other")
    if times:
        yield f"Time, roughly: {'; '.join(times)}."
    if total.memory_bytes:
        yield f"Memory: an analysis takes about {decimal(total.memory_bytes)} of its worker's."


def _by_sae(preview: Preview) -> list[dict[str, Any]]:
    """A row per SAE and range of layers whose jobs have the same status."""
    status: dict[tuple[str, int], dict[str, str]] = {}
    for job in preview.jobs:
        if job.sae is not None:
            label = sae_label(job.sae) + (f", {job.half}" if job.half else "")
            status.setdefault((label, job.layers[0]), {})[job.kind] = job.status
    layers: dict[tuple[str, str, str], list[int]] = {}
    for (label, layer), of_kind in status.items():
        made = of_kind["train"] if "train" in of_kind else of_kind["import"]
        layers.setdefault((label, made, of_kind["analyze"]), []).append(layer)
    order = {label: i for i, (label, _) in enumerate(status)}
    return [
        {"sae": label, "layers": ranges(where), "train": _COLUMNS[train], "analyze": _COLUMNS[analyze]}
        for (label, train, analyze), where in sorted(layers.items(), key=lambda item: (order[item[0][0]], item[1]))
    ]


def print_plan(plan: Plan) -> None:
    """Print what was queued, what is reused, and how to watch it."""
    click.echo(f"Study {plan.study_id}: {short_model_name(plan.model.name)}, {_layers(plan.layers)}, on {_where(plan)}")
    print_former_study(plan)
    if len(plan.jobs) <= _LISTED_JOBS:
        for job in plan.jobs:
            click.echo(f"  job {job.id:>4}  {_STATUS[job.status]:<18} {job.title}")
    _print_dropping(plan)
    print_outcome(plan)


def print_former_study(plan: Plan) -> None:
    """Print whether the same was requested before, and whether the study has another name now."""
    if not plan.is_new:
        renamed = "" if plan.name == plan.former_name else f"; it was called {plan.former_name}, now {plan.name}"
        click.echo(f"The same request as before, so it is the same study{renamed}.")


def print_outcome(plan: Plan) -> None:
    """Print how many jobs were queued, and how to watch them."""
    click.echo(f"{plan.n_queued} jobs queued, {len(plan.jobs) - plan.n_queued} reused or already under way.")
    click.echo(
        f"Watch with `hsae-admin jobs watch {plan.study_id}`; then `hsae-admin results layers --study {plan.study_id}`"
        f" and `hsae-admin results study {plan.study_id}`."
    )


def plan_json(plan: Preview) -> dict[str, Any]:
    """The plan as JSON; if nothing was entered, a new study and the new jobs have no numbers."""
    entered = isinstance(plan, Plan)
    return {
        "study": plan.study_id,
        "is_new": plan.is_new if isinstance(plan, Plan) else plan.study_id is None,
        "model": plan.model.name,
        "revision": plan.model.revision,
        "dataset": plan.dataset.name,
        "score_dataset": None if plan.score_dataset is None else plan.score_dataset.name,
        "layers": list(plan.layers),
        "embeddings": plan.embeddings,
        "estimates": {kind: asdict(estimate) for kind, estimate in _estimates(plan).items()},
        "drop_after": plan.drop_after,
        "jobs": [
            {
                "id": None if job.status == "new" and not entered else job.id,
                "key": job.key,
                "kind": job.kind,
                "title": job.title,
                "status": job.status,
                "state": job.state,
                "layers": list(job.layers),
                "sae": None if job.sae is None else job.sae.model_dump(mode="json"),
            }
            for job in plan.jobs
        ],
    }


def _where(plan: Preview) -> str:
    apart = "" if plan.score_dataset is None else f", scored on {plan.score_dataset.name}"
    return f"{plan.dataset.name}{apart}"


def _layers(layers: tuple[int, ...]) -> str:
    return f"{'layer' if len(layers) == 1 else 'layers'} {ranges(layers)}"
