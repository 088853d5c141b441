"""hsae-admin results levels: class information in a layer's activations at every level of the taxonomy."""

from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.findings.levels import level_rows
from hsae.catalog.queries.known_names import require_known
from hsae.catalog.queries.scope import choose_scope
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.study_choice import say, scope_note
from hsae.cli.printing.better import marked, print_legend
from hsae.cli.printing.output import console, print_json, table
from hsae.cli.results.filters import dataset_option, layer_option, model_option, study_option
from hsae.pipeline.exports.analysis_names import activation_titles, in_sample_analyses

_ACCURACIES = {"probe_accuracy": "probe", "knn_accuracy": "k-NN", "nn_accuracy": "1-NN"}
_LEGEND = """\
Columns: the depth at which the taxonomy is cut (root = 0), the last of them the classes themselves; groups = what they
join to. Accuracy on the layer's raw activations, of images that were not trained on: a linear probe, the vote of the k
nearest training images, and the nearest alone (1-NN). chance = always naming the largest group."""
_IN_SAMPLE = (
    "In-sample: the study keeps no part of the images for scoring; its probes hold out a quarter of every class."
)


@click.command()
@study_option
@model_option
@dataset_option
@layer_option
@json_option
@pass_connections
def levels(connections: Connections, /, study: int | str | None, as_json: bool, **wanted: Any) -> None:
    """Linear probe and nearest neighbours of every layer, the classes joined at every depth of the taxonomy."""
    with transaction(connections.sessions) as session:
        fits = AnalysisFilter(**wanted)
        require_known(session, fits)
        scope = choose_scope(session, study, fits)
        rows = level_rows(session, scope.wanted)
        numbers = {row["analysis_id"] for row in rows}
        titles, in_sample = activation_titles(session, numbers), in_sample_analyses(session, numbers)
    if as_json:
        print_json(rows)
        return
    say(scope_note(scope), quiet=False)
    if not rows:
        click.echo("No scores fit: `hsae-admin submit --layer 8 --wait` makes some, with one label per image.")
        return
    out = console()
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(titles[row["analysis_id"]], []).append(row)
    for title, group in groups.items():
        out.print(table(_by_layer(group), _columns(group), title=title, digits=2))
        out.print()
    out.print(_LEGEND, soft_wrap=True)
    print_legend(_ACCURACIES)
    if in_sample:
        out.print(_IN_SAMPLE, soft_wrap=True)


def _columns(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {"layer": "layer", "what": ""} | {
        f"level{level}": str(level) for level in sorted({r["level"] for r in rows})
    }


def _by_layer(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line with the groups and the chance, then three lines per layer."""
    first = {row["level"]: row for row in reversed(rows)}
    lines: list[dict[str, Any]] = [
        {"what": what} | {f"level{level}": row[name] for level, row in first.items()}
        for what, name in (("groups", "n_groups"), ("chance", "probe_chance"))
    ]
    for layer in dict.fromkeys((row["layer"], row["analysis_id"]) for row in rows):
        own = [row for row in rows if (row["layer"], row["analysis_id"]) == layer]
        lines += [
            {"layer": layer[0], "what": what} | {f"level{row['level']}": row[name] for row in own}
            for name, what in marked(_ACCURACIES).items()
        ]
    return lines
