"""hsae-admin results study: a study's analyses compared, with bootstrap intervals."""

from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.findings.study_intervals import comparison_differences, comparison_scores, find_comparison
from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.study_choice import say, study_or_latest
from hsae.cli.printing.output import console, json_option, print_json, table
from hsae.cli.results.filters import CONTROL_HEADINGS
from hsae.pipeline.kinds.setting_labels import sae_label
from hsae.report.interval_table import beside_differences, between_saes
from hsae.sae.config import SaeConfig
from hsae.split_config import IN_SAMPLE

# What each metric is called for people, in the order in which they are printed.
METRICS = {
    "best_f1_inner_mean": "best F1 of any latent, mean over inner nodes (3+ classes)",
    "best_f1_mean": "best F1 of any latent, mean over nodes",
    "share_nodes_f1": "share of nodes that some latent answers to with F1 >= 0.5",
    "lch_height_mean": "LCH height, mean over latents",
    "coverage_mean": "ontological coverage, mean over latents",
    "monosemanticity_mean": "monosemanticity, mean over latents",
    "class_entropy_mean": "class entropy in bits, mean over latents",
    "label_f1_mean": "F1 of the label, mean over latents",
}
_SHOWN = ("best_f1_inner_mean", "lch_height_mean", "monosemanticity_mean")
_HEADINGS = {"layer": "layer", "sae": "SAE", "n": "n", "value": "value", "interval": "interval"}
_IMPORTANCE = ("layer", "sae", "value", "interval")
_BETWEEN = {
    "layer": "layer", "sae": "SAE", "other_sae": "minus", "difference": "difference", "interval": "interval", "n": "n",
}  # fmt: skip
_LEGEND = """\
Differences: the SAE minus its control, minus the same SAE configuration one layer before. * = the interval excludes 0.
Nodes are resampled, or latents; not images, nor trainings: docs/metrics.md says what the intervals cover."""


@click.command("study")
@click.argument("study", type=int, required=False, shell_complete=complete_studies)
@click.option(
    "--metric", "metrics", type=click.Choice([*METRICS, "all"]), multiple=True,
    help=f"What to compare; may be given several times.  [default: {', '.join(_SHOWN)}; JSON: all]",
)  # fmt: skip
@json_option
@pass_connections
def study_results(connections: Connections, study: int | None, metrics: tuple[str, ...], as_json: bool) -> None:
    """Compare the layers and SAEs of STUDY with each other and with their controls, with confidence intervals.

    Without STUDY: the latest that has a comparison.
    """
    wanted = set(METRICS) if "all" in metrics or (as_json and not metrics) else set(metrics or _SHOWN)
    with transaction(connections.sessions) as session:
        number, note = study_or_latest(session, study, compared=True)
        comparison = find_comparison(session, number)
        scores, differences = (
            [row for row in rows if row["metric"] in wanted]
            for rows in (
                comparison_scores(session, comparison["id"]),
                comparison_differences(session, comparison["id"]),
            )
        )
    for row in (*scores, *differences):
        row |= {name: sae_label(SaeConfig.parse(row[name])) for name in ("sae", "other_sae") if name in row}
    if as_json:
        print_json({"study": number, "comparison": comparison, "scores": scores, "differences": differences})
        return
    say(note, quiet=False)
    out = console()
    config = comparison["config"]
    images = comparison["dataset"] + (f", {IN_SAMPLE}" if comparison["in_sample"] else "")
    out.print(
        f"Study {number} on {images}: {config['confidence']:.0%} intervals of {config['n_resamples']}"
        " bootstrap resamples",
        soft_wrap=True,
        markup=False,
    )
    for metric in (name for name in METRICS if name in wanted):
        of_metric = [[row for row in rows if row["metric"] == metric] for rows in (scores, differences)]
        out.print()
        _print_metric(METRICS[metric], *of_metric)
        pairs = between_saes(of_metric[1])
        if pairs:
            out.print(table(pairs, _BETWEEN, title="SAEs of one layer"))
    out.print()
    out.print(_LEGEND, soft_wrap=True, markup=False)


def _print_metric(title: str, scores: list[dict[str, Any]], differences: list[dict[str, Any]]) -> None:
    rows = beside_differences(scores, differences)
    controls = sorted({name for row in rows for name in row if name.startswith("minus_")} - {"minus_layer_before"})
    columns = dict(_HEADINGS)
    for name in controls:
        basis = name.removeprefix("minus_")
        columns[name] = f"- {CONTROL_HEADINGS.get(basis, basis)}"
    if any("minus_layer_before" in row for row in rows):
        columns["minus_layer_before"] = "- layer before"
    console().print(table(rows, columns, title=title, importance=_IMPORTANCE))
