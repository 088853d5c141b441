"""hsae-admin studies: what was asked for, what came of it, and how to take it off the list."""

from collections.abc import Sequence
from typing import Any

import click

from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.groups import HelpfulGroup
from hsae.cli.printing.output import cell, console, json_option, print_json, print_rows, table

_COLUMNS = {
    "id": "study", "name": "name", "model": "model", "dataset": "data set", "layers": "layers", "n_saes": "SAEs",
    "jobs": "jobs", "submitted_at": "submitted",
}  # fmt: skip
_IMPORTANCE = ("id", "name", "jobs", "model", "layers", "dataset")
_ANALYSES = {
    "layer": "layer", "name": "SAE", "extract_job": "extract", "train": "train job", "analyze": "analyze job",
    "activation_set": "activations", "sae": "SAE no.", "analysis": "analysis", "fvu": "FVU",
}  # fmt: skip


@click.group(cls=HelpfulGroup)
def studies() -> None:
    """List, show and remove studies: what `submit` was asked for."""


@studies.command("list")
@json_option
@pass_connections
def list_(connections: Connections, as_json: bool) -> None:
    """List studies, the latest last. The same request is one study, however often it is submitted."""
    from hsae.catalog import transaction
    from hsae.catalog.queries.studies import list_studies

    with transaction(connections.sessions) as session:
        rows = list_studies(session)
    shown = rows if as_json else [row | _for_people(row) for row in rows]
    print_rows(shown, _COLUMNS, as_json=as_json, empty="No study: `hsae-admin submit --layer 8` makes one.",
               importance=_IMPORTANCE)  # fmt: skip


@studies.command()
@click.argument("study", type=int, required=False, shell_complete=complete_studies)
@json_option
@pass_connections
def show(connections: Connections, study: int | None, as_json: bool) -> None:
    """Show a STUDY (default: the latest): its request, its jobs, and its analyses with their artifacts.

    JSON has the keys of the artifacts, too.
    """
    from hsae.catalog import transaction
    from hsae.catalog.queries.studies import show_study
    from hsae.cli.framework.study_choice import study_or_latest

    with transaction(connections.sessions) as session:
        number, note = study_or_latest(session, study)
        row = show_study(session, number)
    if as_json:
        print_json(row)
        return
    if note is not None:
        click.echo(note, err=True)
    people = row | _for_people(row)
    for name, heading in _COLUMNS.items():
        click.echo(f"{heading:<12} {cell(people[name])}")
    click.echo(f"{'first asked':<12} {cell(row['created_at'])}")
    _print_request(row["request"])
    out = console()
    analyses = _named_analyses(row["analyses"])
    if analyses:
        out.print()
        out.print(table(analyses, _ANALYSES, importance=("name", "layer", "analysis")))
    compared = row["comparison"]
    if compared is not None:
        made = "" if compared["comparison"] is None else f": see `hsae-admin results study {row['id']}`"
        out.print()
        out.print(f"Comparison: job {compared['job']} {compared['state']}{made}", soft_wrap=True, markup=False)
    failed = [job for job in row["job_list"] if job["state"] in {"failed", "cancelled"} and job["error"]]
    for job in failed:
        out.print(f"job {job['id']} {job['state']}: {job['error']}", soft_wrap=True, markup=False)


@studies.command()
@click.argument("study", type=int, shell_complete=complete_studies)
@json_option
@pass_connections
def remove(connections: Connections, study: int, as_json: bool) -> None:
    """Take STUDY off the list, once its jobs are done or cancelled. What they made stays."""
    from hsae.catalog import transaction
    from hsae.pipeline.control.studies import remove_study

    with transaction(connections.sessions) as session:
        removed = remove_study(session, study)
    if as_json:
        print_json(
            {
                "removed": removed.id,
                "name": removed.name,
                "shared_jobs": removed.n_shared_jobs,
                "own_jobs": removed.n_own_jobs,
            }
        )
        return
    click.echo(
        f"Removed study {removed.id} ({removed.name}). {removed.n_shared_jobs} of its jobs are shared with other"
        f" studies; {removed.n_own_jobs} now belong to none."
    )
    click.echo(
        "What they made stays, and a submit that needs it reuses it: `hsae-admin gc` deletes only what no row of the"
        " catalog refers to, and these artifacts have rows. `results --study all` still shows their scores."
    )


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    from hsae.backbones.names import short_model_name
    from hsae.catalog.tables.work import JOB_STATES
    from hsae.report.ranges import ranges

    return {
        "model": None if row["model"] is None else short_model_name(row["model"]),
        "layers": ranges(row["layers"]) if row["layers"] else None,
        "jobs": ", ".join(f"{row['jobs'][state]} {state}" for state in JOB_STATES if state in row["jobs"]) or None,
    }


def _print_request(request: dict[str, Any]) -> None:
    """What was asked for, as a study file says it."""
    import yaml

    given = {name: value for name, value in request.items() if value is not None and name != "name"}
    if given:
        click.echo("request")
        for line in yaml.safe_dump(given, sort_keys=False, default_flow_style=None, width=110).splitlines():
            click.echo(f"  {line}")


def _named_analyses(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    from hsae.report.setting_names import setting_names

    names = setting_names(
        {row["job"]: row["sae_config"] for row in rows if row["sae_config"]}, always=("kind", "expansion")
    )
    return [
        row
        | {
            "name": names.get(row["job"]),
            "train": None if row["train_job"] is None else f"{row['train_job']} {row['train_state']}",
            "analyze": f"{row['job']} {row['state']}",
        }
        for row in rows
    ]
