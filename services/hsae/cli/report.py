"""hsae-admin report: a study as one HTML file to look at and to pass on."""

from pathlib import Path

import click

from hsae.catalog import transaction
from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.study_choice import say, study_or_latest
from hsae.cli.printing.output import print_json


@click.command()
@click.argument("study", type=int, required=False, shell_complete=complete_studies)
@click.option("--latest", is_flag=True, help="The latest study with scores, which is also the default.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="File to write.",
)
@json_option
@pass_connections
def report(connections: Connections, study: int | None, latest: bool, output: Path, as_json: bool) -> None:
    """Write a STUDY as one HTML file that opens in any browser, without a network.

    It shows whether structure rises with depth beyond chance, what the model knows of the taxonomy at every layer, its
    best latents with their strongest images, SAEs compared, and what was not measured. Without STUDY: the latest that
    has scores.
    """
    if latest and study is not None:
        raise click.UsageError("name a study, or give --latest: one of the two")
    with transaction(connections.sessions) as session:
        number, note = study_or_latest(session, study, having="scores")
    say(note, quiet=as_json)
    # SciPy, Parquet and templates: help, and what is refused above, do without.
    from hsae.pipeline.exports.study_report import write_report

    done = write_report(number, output, connections.sessions, connections.store)
    if as_json:
        print_json(done)
        return
    if done["unfinished"]:
        click.echo(done["unfinished"], err=True)
    analyses = "1 analysis" if done["n_analyses"] == 1 else f"{done['n_analyses']} analyses"
    click.echo(f"Report of {analyses}: {output} ({done['n_bytes'] / 1e6:.1f} MB). Open it in a browser.")
