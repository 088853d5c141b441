"""hsae-admin results study: a study's analyses compared, with intervals."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.findings.study_intervals import (
    comparison_differences,
    comparison_scores,
    comparison_trends,
    find_comparison,
    held_out_l0_range,
)
from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.plot_option import plot_option
from hsae.cli.framework.study_choice import say, study_or_latest
from hsae.cli.printing.better import marked, print_legend
from hsae.cli.printing.output import console, print_json, table
from hsae.pipeline.kinds.setting_labels import sae_label, seedless_label
from hsae.report.interval_table import (
    NO_PURITY_INTERVAL,
    beside_differences,
    between_saes,
    interval,
    is_bare_purity,
    verdict,
)
from hsae.report.sparsity import unequal_l0
from hsae.sae.config import SaeConfig
from hsae.split_config import IN_SAMPLE
from hsae.vocabulary.bases import CONTROL_HEADINGS

# What each metric is called for people, in the order in which they are printed.
METRICS = {
    "coherence_excess": "taxonomic coherence above chance in bits, mean over latents",
    "f1_adjusted_inner_mean": "adjusted F1 of the chosen latent, mean over inner nodes (3+ classes)",
    "coherence_excess_weighted": "taxonomic coherence above chance in bits, mean over latents by firings",
    "f1_adjusted_mean": "adjusted F1 of the chosen latent, mean over distinct nodes",
    "lch_excess_mean": "LCH excess in bits, mean over latents with support",
    "purity_mean": "purity of the strongest images, mean over latents",
    # Of comparisons of earlier versions.
    "best_f1_inner_mean": "best F1 of any latent, mean over inner nodes (3+ classes)",
    "best_f1_mean": "best F1 of any latent, mean over nodes",
    "share_nodes_f1": "share of nodes that some latent answers to with F1 >= 0.5",
    "lch_height_mean": "LCH height, mean over latents",
    "coverage_mean": "ontological coverage, mean over latents",
    "monosemanticity_mean": "monosemanticity, mean over latents",
    "class_entropy_mean": "class entropy in bits, mean over latents",
    "label_f1_mean": "F1 of the label, mean over latents",
}
_SHOWN = ("coherence_excess", "f1_adjusted_inner_mean", "lch_excess_mean")
_SHOWN_BEFORE = ("best_f1_inner_mean", "lch_height_mean", "monosemanticity_mean")
_HEADINGS = {"layer": "layer", "sae": "SAE", "n": "n", "value": "value", "interval": "interval"}
_IMPORTANCE = ("layer", "sae", "value", "interval")
_BETWEEN = {
    "layer": "layer", "sae": "SAE", "other_sae": "minus", "difference": "difference", "interval": "interval", "n": "n",
}  # fmt: skip
_TREND = {"metric": "quantity", "sae": "SAE", "slope": "slope per layer", "interval": "interval", "rises": "rises?"}
_LEGEND = """\
Differences: the SAE minus its control, minus the same SAE configuration one layer before. * = a gain whose interval
excludes 0, ! = a loss.
Intervals say how much a number would change with other classes, and with other seeds or halves where there are several:
docs/metrics.md."""
_CROSS_FITTED = "mean of two halves (cross-fitted)"
_LEGEND_BEFORE = """\
Differences: the SAE minus its control, minus the same SAE configuration one layer before. * = a gain whose interval
excludes 0, ! = a loss.
This comparison is of an earlier version, which resampled nodes or latents: its intervals are too narrow. Submit the
study again for intervals that delete classes."""


@click.command("study")
@click.argument("study", type=int, required=False, shell_complete=complete_studies)
@click.option(
    "--metric", "metrics", type=click.Choice([*METRICS, "all"]), multiple=True,
    help=f"What to compare; may be given several times.  [default: {', '.join(_SHOWN)}; JSON: all]",
)  # fmt: skip
@plot_option
@json_option
@pass_connections
def study_results(
    connections: Connections, study: int | None, metrics: tuple[str, ...], plot: Path | None, as_json: bool
) -> None:
    """Compare the layers and SAEs of STUDY with each other and with their controls, with confidence intervals.

    SAEs that differ in their seed alone are one configuration, as are those of two halves of the images, of which each
    is scored in turn. Without STUDY: the latest that has a comparison.
    """
    with transaction(connections.sessions) as session:
        number, note = study_or_latest(session, study, having="a comparison")
        comparison = find_comparison(session, number)
        is_former = "n_resamples" in comparison["config"]
        shown = _SHOWN_BEFORE if is_former else _SHOWN
        wanted = set(METRICS) if "all" in metrics or (as_json and not metrics) else set(metrics or shown)
        l0_range = held_out_l0_range(session, comparison["id"])
        scores, differences, trends = (
            [row for row in find(session, comparison["id"]) if row["metric"] in wanted]
            for find in (comparison_scores, comparison_differences, comparison_trends)
        )
    label = sae_label if is_former else seedless_label
    for row in (*scores, *differences, *trends):
        row |= {name: label(SaeConfig.parse(row[name])) for name in ("sae", "other_sae") if name in row}
        if (row.get("n_seeds") or 1) > 1:
            row["sae"] = f"{row['sae']}, {row['n_seeds']} seeds"
    config = comparison["config"]
    images = comparison["dataset"] + (f", {IN_SAMPLE}" if comparison["in_sample"] else "")
    images += f", {_CROSS_FITTED}" if comparison["cross_fitted"] else ""
    how = f"of {config['n_resamples']} bootstrap resamples" if is_former else "by deleting a fifth of the classes"
    title = f"Study {number} on {images}: {config['confidence']:.0%} intervals {how}"
    if plot is not None:
        # matplotlib takes half a second to load: only a picture needs it.
        from hsae.report.figures.study_figure import study_figure

        drawn = {name: METRICS[name] for name in METRICS if name in (wanted if metrics else shown)}
        study_figure(drawn, scores, differences, trends, title, plot)
        click.echo(f"Figure: {plot}", err=True)
    if as_json:
        print_json(
            {"study": number, "comparison": comparison, "scores": scores, "differences": differences, "trends": trends}
        )
        return
    say(note, quiet=False)
    out = console()
    out.print(title, soft_wrap=True, markup=False)
    warning = unequal_l0(l0_range, "the SAEs'")
    if warning is not None:
        out.print(warning, soft_wrap=True, markup=False)
    for metric in (name for name in METRICS if name in wanted):
        of_metric = [[row for row in rows if row["metric"] == metric] for rows in (scores, differences)]
        out.print()
        _print_metric(metric, *of_metric)
        pairs = between_saes(of_metric[1])
        if pairs:
            out.print(table(pairs, _BETWEEN, title="SAEs of one layer"))
    if trends:
        out.print()
        out.print(table([_trend(row) for row in trends], _TREND, title="With depth"))
    out.print()
    out.print(_LEGEND_BEFORE if is_former else _LEGEND, soft_wrap=True, markup=False)
    print_legend(wanted)
    if is_bare_purity(scores):
        out.print(NO_PURITY_INTERVAL, soft_wrap=True, markup=False)


def _print_metric(metric: str, scores: list[dict[str, Any]], differences: list[dict[str, Any]]) -> None:
    """The table of a metric; whether more of it is better stands in the heading of its values."""
    rows = beside_differences(scores, differences)
    controls = sorted({name for row in rows for name in row if name.startswith("minus_")} - {"minus_layer_before"})
    columns = _HEADINGS | {"value": marked({metric: _HEADINGS["value"]})[metric]}
    for name in controls:
        basis = name.removeprefix("minus_")
        columns[name] = f"- {CONTROL_HEADINGS.get(basis, basis)}"
    if any("minus_layer_before" in row for row in rows):
        columns["minus_layer_before"] = "- layer before"
    console().print(table(rows, columns, title=METRICS[metric], importance=_IMPORTANCE))


def _trend(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of trends."""
    return {
        "metric": row["metric"],
        "sae": row["sae"],
        "slope": row["slope"],
        "interval": interval(row),
        "rises": verdict(row),
    }
