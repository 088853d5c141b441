"""hsae-admin studies show: the request of a study and its results."""

from collections.abc import Sequence
from typing import Any

import click
import yaml

from hsae.catalog import UNSUCCESSFUL_STATES, transaction
from hsae.catalog.queries.studies import show_study
from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.study_choice import say, study_or_latest
from hsae.cli.printing.better import marked, print_legend
from hsae.cli.printing.output import cell, console, print_json, table
from hsae.cli.studies.summary import COLUMNS, for_people
from hsae.report.setting_names import setting_names
from hsae.split_config import NO_SPLIT, SplitConfig

_ANALYSES = {
    "layer": "layer", "name": "SAE", "extract_job": "extract", "train": "train job", "analyze": "analyze job",
    "activation_set": "activations", "sae": "SAE no.", "analysis": "analysis", "fvu": "FVU",
}  # fmt: skip


@click.command()
@click.argument("study", type=int, required=False, shell_complete=complete_studies)
@click.option("--spec", "as_spec", is_flag=True, help="Print its request alone, as a file for `submit --spec`.")
@json_option
@pass_connections
def show(connections: Connections, study: int | None, as_spec: bool, as_json: bool) -> None:
    """Show a STUDY (default: the latest): its request, its jobs, and its analyses with their artifacts.

    JSON has the keys of the artifacts, too.
    """
    if as_spec and as_json:
        raise click.UsageError("--spec and --json are two forms: choose one of them")
    with transaction(connections.sessions) as session:
        number, note = study_or_latest(session, study)
        row = show_study(session, number)
    if as_json:
        print_json(row)
        return
    say(note, quiet=False)
    if as_spec:
        click.echo(_study_file(row["request"]), nl=False)
        return
    people = row | for_people(row)
    for name, heading in COLUMNS.items():
        click.echo(f"{heading:<12} {cell(people[name])}")
    click.echo(f"{'first asked':<12} {cell(row['created_at'])}")
    if row["request"]:
        click.echo("request")
        for line in _study_file(row["request"]).splitlines():
            click.echo(f"  {line}")
    out = console()
    analyses = _named_analyses(row["analyses"])
    if analyses:
        out.print()
        out.print(table(analyses, marked(_ANALYSES), importance=("name", "layer", "analysis")))
        print_legend(_ANALYSES)
    compared = row["comparison"]
    if compared is not None:
        made = "" if compared["comparison"] is None else f": see `hsae-admin results study {row['id']}`"
        out.print()
        out.print(f"Comparison: job {compared['job']} {compared['state']}{made}", soft_wrap=True, markup=False)
    failed = [job for job in row["job_list"] if job["state"] in UNSUCCESSFUL_STATES and job["error"]]
    for job in failed:
        out.print(f"job {job['id']} {job['state']}: {job['error']}", soft_wrap=True, markup=False)


def _study_file(request: dict[str, Any]) -> str:
    """The request in the form of a study file, without a name: the same request is the same study."""
    given = {name: value for name, value in request.items() if value is not None and name != "name"}
    # A study file has the settings of single stages beside the others.
    given |= {name: value for name, value in given.pop("own", {}).items() if value is not None}
    if "split" in given:  # studies of earlier versions used halves in one way
        given.setdefault("cross_fit", False)
    given.setdefault("split", NO_SPLIT)  # those of the first versions have none either
    return yaml.safe_dump(given, sort_keys=False, default_flow_style=None, width=110)


def _named_analyses(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    names = setting_names(
        {row["job"]: row["sae_config"] for row in rows if row["sae_config"]}, always=("kind", "expansion")
    )
    is_cross_fitted = any(row["fold"] for row in rows)
    return [
        row
        | {
            "name": _half(names.get(row["job"]), row["fold"]) if is_cross_fitted else names.get(row["job"]),
            "activation_set": f"{row['activation_set']} (dropped)" if row["dropped_at"] else row["activation_set"],
            "train": None if row["train_job"] is None else f"{row['train_job']} {row['train_state']}",
            "analyze": f"{row['job']} {row['state']}",
        }
        for row in rows
    ]


def _half(name: str | None, fold: int) -> str:
    """An SAE's name with the half of the images that is scored."""
    return f"{name}, {SplitConfig(fold=fold).scored_half}"
