"""hsae-admin results maps: relevancy maps as pictures."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from sqlalchemy.orm import Session

from hsae.catalog import transaction
from hsae.catalog.findings.maps import latent_facts, map_rows, mapped_analyses
from hsae.catalog.queries.known_names import require_known
from hsae.catalog.queries.scope import choose_scope
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.study_choice import say, scope_note
from hsae.cli.printing.output import csv_text, print_json, print_rows
from hsae.cli.results.filters import analysis_option, layer_option, one_analysis, sae_option, study_option
from hsae.errors import UserError
from hsae.pipeline.exports.analysis_names import name_saes
from hsae.relevancy.config import MAP_METHODS

_COLUMNS = {
    "layer": "layer", "sae": "SAE", "latent": "latent", "label": "label", "label_f1_adjusted": "adjusted F1",
    "method": "method", "n_images": "images", "concentration": "concentration", "file": "picture",
}  # fmt: skip
_IMPORTANCE = ("latent", "label", "file", "layer", "sae", "method", "concentration", "label_f1_adjusted")
_TABLE = (
    "analysis_id", "layer", "sae", "latent", "label", "label_f1_adjusted", "method", "rank", "image", "path",
    "activation", "peak", "peak_row", "peak_col", "concentration", "file",
)  # fmt: skip
_HOW = "`hsae-admin submit` with the same options and --maps 32 makes them and reuses all the rest"
_TABLE_FILE = "maps.csv"


@click.command()
@analysis_option
@study_option
@layer_option
@sae_option
@click.option(
    "--latent", "latents", type=click.IntRange(0, 2**31 - 1), multiple=True,
    help="Only this latent; may be given several times.",
)  # fmt: skip
@click.option(
    "--method", "methods", type=click.Choice(MAP_METHODS), multiple=True,
    help="Only maps of this method; may be given several times.  [default: all that were made]",
)  # fmt: skip
@click.option(
    "--side", type=click.IntRange(16, 1024), default=160, show_default=True, help="Pixels of a picture's side."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to."
)
@json_option
@pass_connections
def maps(
    connections: Connections,
    /,
    analysis_id: int | None,
    study: int | str | None,
    layer: int | None,
    sae_kind: str | None,
    latents: tuple[int, ...],
    methods: tuple[str, ...],
    side: int,
    output: Path,
    as_json: bool,
) -> None:
    """Write relevancy maps of latents as pictures: where in its strongest images a latent comes from.

    One PNG per latent: the images, strongest first, and below each its maps, a row per method. Bright patches are the
    most relevant ones of their map. A table of all maps, maps.csv, says where each is greatest, and its concentration:
    the share of the map's sum that the most relevant tenth of the patches has (0.1 for an even map).
    """
    wanted = AnalysisFilter(analysis_ids=one_analysis(analysis_id), layer=layer, sae_kind=sae_kind)
    with transaction(connections.sessions) as session:
        require_known(session, wanted)
        scope = choose_scope(session, study, wanted, kept="maps")
        rows = _rows(session, scope.wanted, latents, methods)
        name_saes(session, rows)
    say(scope_note(scope), quiet=as_json)
    lacking = sorted(set(latents) - {row["latent"] for row in rows})
    if lacking:
        click.echo(f"No maps were made of latent {', '.join(map(str, lacking))}.", err=True)
    # Pillow, NumPy and matplotlib take a second to load: help, and what is refused above, do without.
    from hsae.cli.results.files.map_pictures import write_pictures

    try:
        unavailable = write_pictures(connections, rows, output, side)
        (output / _TABLE_FILE).write_text(csv_text(_TABLE, [[row[name] for name in _TABLE] for row in rows]))
    except OSError as error:
        raise UserError(f"{output}: {error.strerror or error}: choose another folder with -o") from error
    for line in unavailable:
        click.echo(f"Left empty: {line}", err=True)
    if as_json:
        print_json([{name: row[name] for name in _TABLE} for row in rows])
        return
    print_rows(_by_latent(rows), _COLUMNS, as_json=False, empty="", importance=_IMPORTANCE)
    click.echo(f"{len({row['file'] for row in rows})} pictures and {_TABLE_FILE} are in {output}.")


def _rows(
    session: Session, wanted: AnalysisFilter, latents: Sequence[int], methods: Sequence[str]
) -> list[dict[str, Any]]:
    """The maps that fit.

    Raises:
        UserError: there are none; the line says why, and how to make them.
    """
    found = mapped_analyses(session, wanted)
    if not found:
        raise UserError(f"no analysis that fits has relevancy maps: {_HOW}")
    rows = []
    for analysis in found:
        of_analysis = map_rows(session, analysis["analysis_id"], latents or None, methods=methods or None)
        rows += [row | {"layer": analysis["layer"]} for row in of_analysis]
    if rows:
        return rows
    numbers = [analysis["analysis_id"] for analysis in found]
    if latents:
        facts = latent_facts(session, numbers, latents)
        unknown = sorted(set(latents) - {fact["latent"] for fact in facts})
        if unknown:
            raise UserError(f"there is no latent {unknown[0]} in these analyses: see `hsae-admin results latents`")
        dead = sorted({fact["latent"] for fact in facts} - {fact["latent"] for fact in facts if not fact["is_dead"]})
        if dead:
            raise UserError(f"latent {dead[0]} fires on no image, so that there is nothing to map: choose another one")
        listed = ", ".join(map(str, latents))
        raise UserError(
            f"latent {listed} has no maps, which only the latents with the surest labels have: a larger number in"
            " `hsae-admin submit --maps` makes more"
        )
    if not methods:
        raise UserError("no latent that was to be mapped fires on an image, so that there are no maps")
    raise UserError(
        f"no maps were made by {', '.join(methods)}: name the methods in a study file, `map: {{latents: 32, methods:"
        f" [chefer, {methods[0]}]}}`"
    )


def _by_latent(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each latent and method: the mean concentration over the images."""
    found = []
    for _, same in groupby(rows, key=lambda row: (row["analysis_id"], row["latent"], row["method"])):
        images = list(same)
        defined = [row["concentration"] for row in images if row["concentration"] is not None]
        mean = sum(defined) / len(defined) if defined else None
        found.append(images[0] | {"n_images": len(images), "concentration": mean})
    return found
