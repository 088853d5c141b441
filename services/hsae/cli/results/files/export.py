"""hsae-admin results export: analyses as files."""

from pathlib import Path
from typing import Any

import click
from sqlalchemy.orm import Session

from hsae.catalog import transaction
from hsae.catalog.queries.analyses import find_analysis
from hsae.catalog.queries.known_names import study_analyses
from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.study_choice import say
from hsae.cli.printing.output import print_json
from hsae.errors import UserError

_JSON = ("id", "key", "model", "layer", "sae_kind", "dataset", "image_root", "folder", "n_pairs")


@click.command()
@click.argument("analyses", type=int, nargs=-1, metavar="[ANALYSIS]...")
@click.option("--analysis", "named", type=int, multiple=True, help="The same as ANALYSIS; may be given several times.")
@click.option("--study", type=int, shell_complete=complete_studies, help="Export all analyses of this study.")
@click.option("--latest", is_flag=True, help="Export the latest analysis, which is the default.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="New or empty folder to write to.")
@json_option
@pass_connections
def export(
    connections: Connections,
    /,
    analyses: tuple[int, ...],
    named: tuple[int, ...],
    study: int | None,
    latest: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Write analyses as files: activations, images, taxonomy and every pair's scores, and the SAE with its weights.

    A README.md beside them describes every file. One ANALYSIS (default: the latest) is written into the folder itself;
    several, or those of a study, each into a folder analysis-N of it.
    """
    wanted = list(dict.fromkeys((*analyses, *named)))
    if bool(wanted) + (study is not None) + latest > 1:
        raise click.UsageError("name analyses, or a --study, or give --latest: one of the three")
    with transaction(connections.sessions) as session:
        if study is not None:
            wanted = _of_study(session, study)
        else:
            numbers: tuple[int | None, ...] = (*wanted,) or (None,)
            for number in numbers:
                find_analysis(session, number)
    # The export loads torch, which takes seconds: help, and what is refused above, do without.
    from hsae.pipeline.exports.export import export_analyses, export_analysis

    if study is None and len(wanted) < 2:
        done = export_analysis(wanted[0] if wanted else None, output, connections.sessions, connections.store)
        note = None if wanted else f"Analysis {done['id']}, the latest. Others: see `hsae-admin studies show`."
        say(note, quiet=as_json)
        rows = [done]
    else:
        rows = export_analyses(wanted, output, connections.sessions, connections.store)
    if as_json:
        shown = [{name: row[name] for name in _JSON} for row in rows]
        print_json(shown[0] if study is None and len(shown) == 1 else shown)
        return
    for row in rows:
        click.echo(_line(row))
    click.echo(f"{output / 'README.md'} says what is where.")


def _of_study(session: Session, study: int) -> list[int]:
    found = study_analyses(session, study)
    if not found:
        raise UserError(f"study {study} has no analysis yet: see `hsae-admin studies show {study}`")
    return found


def _line(row: dict[str, Any]) -> str:
    what = f"{row['sae_kind']} SAE x{row['expansion']} of {row['model']} layer {row['layer']}"
    return (
        f"Analysis {row['id']} ({what}) is in {row['folder']}: {row['n_images']} images x {row['n_latents']} latents,"
        f" {row['n_pairs']} scored pairs."
    )
