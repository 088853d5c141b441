"""hsae-admin results layers: scores of every layer, beside those of its controls."""

from pathlib import Path
from typing import Any, Literal

import click

from hsae.catalog import transaction
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.plot_option import plot_option
from hsae.cli.framework.study_choice import say, scope_note
from hsae.cli.printing.better import BOTH_LEGEND, marked
from hsae.cli.printing.output import console, print_json, table
from hsae.cli.results.filters import (
    dataset_option,
    layer_option,
    model_option,
    sae_option,
    study_option,
)
from hsae.pipeline.exports.result_rows import layer_results
from hsae.report.headline_table import OF_TREE, headline_cells
from hsae.report.sparsity import unequal_l0
from hsae.split_config import SplitConfig
from hsae.vocabulary.bases import CONTROL_HEADINGS

_Protocol = Literal["chance", "paper"]
_HEADLINE_COLUMNS = {
    "layer": "\nlayer",
    "fvu": "\nFVU",
    "holdout_l0": "\nL0",
    "coherence": "coherence\nexcess, bits",
    "exemplars": "\nexemplars",
    "inner_f1": "inner F1,\nadjusted",
    "baseline": "best\nbaseline",
    "tree": "~tree,\nto 97.5 %",
}
_HEADLINE_IMPORTANCE = ("layer", "coherence", "inner_f1", "baseline", "exemplars", "tree", "fvu", "holdout_l0")
_HEADLINE_LEGEND = f"""\
coherence excess: how much closer in the tree, in bits, the classes of a latent's 16 strongest images are than classes
at random; 0 by chance. exemplars: the same of similarity to single training images, the baseline to beat. inner F1:
mean best F1 of nodes with 3+ classes, 0 for what always fires; beside it the best baseline at the SAE's densities,
and what the SAE's latents give with the classes shuffled over the tree (~tree: mean to 97.5 % quantile). By chance it
is not 0: compare it with ~tree; ? = not above that quantile. ±: 95 % intervals by deleting a fifth of the classes.
FVU, L0: of rows that the training held out. {BOTH_LEGEND} `results layers --full` has every control,
`results study` tests differences."""
_CHANCE_COLUMNS = {
    "layer": "\nlayer",
    "fvu": "\nFVU",
    "l0": "\nL0",
    "dead_share": "\ndead",
    "probe_accuracy": "\nprobe",
    "coherence_excess": "cohe-\nrence",
    "coherence_p": "\np",
    "coherence_excess_neuron": "\nneurons",
    "coherence_excess_random": "\nrandom",
    "coherence_excess_untrained": "\nuntrained",
    "coherence_excess_tree": "\n~tree",
    "purity": "pu-\nrity",
    "purity_null": "\nnull",
    "lch_excess": "LCH\nexcess",
    "lch_excess_tree": "\n~tree",
    "n_lch_eligible": "\nlatents",
}
_PAPER_COLUMNS = {
    "layer": "\nlayer",
    "fvu": "\nFVU",
    "holdout_l0": "\nL0",
    "dead_share": "\ndead",
    "probe_accuracy": "\nprobe",
    "lch_height_raw": "LCH\nheight",
    "lch_height_raw_neuron": "neu-\nrons",
    "lch_height_raw_untrained": "un-\ntrained",
    "lch_height_raw_tree": "\n~tree",
    "lch_height_raw_shuffled_labels": "\n~labels",
    "coverage_raw": "cover-\nage",
    "coverage_raw_neuron": "neu-\nrons",
    "coverage_raw_untrained": "un-\ntrained",
    "coverage_raw_tree": "\n~tree",
    "coverage_raw_shuffled_labels": "\n~labels",
}
_TRAINING_COLUMNS = {
    "layer": "\nlayer",
    "fvu": "held out\nFVU",
    "holdout_l0": "\nL0",
    "holdout_dead_share": "\ndead",
    "train_fvu": "train\nFVU",
    "train_l0": "\nL0",
    "train_dead_share": "\ndead",
}
_SCORES = {
    "best_f1_adjusted_inner": "F1 of 3+\nclasses",
    "best_f1_adjusted_pair": "F1 of 2\nclasses",
    "best_f1_adjusted_single": "F1 of 1\nclass",
    "best_f1_adjusted": "F1 of all\nnodes",
    "share_nodes_rarefied": "rarefied\nshare",
    "share_nodes_q": "nodes\nq<.01",
    "n_latents": "\ncolumns",
}
# Of the columns these stay longest in a narrow terminal: each score followed by the controls that say most of it.
_CHANCE_IMPORTANCE = (
    "layer", "coherence_excess", "coherence_p", "coherence_excess_tree", "coherence_excess_random", "fvu",
    "l0", "lch_excess", "n_lch_eligible", "purity", "purity_null", "probe_accuracy", "coherence_excess_neuron",
)  # fmt: skip
_PAPER_IMPORTANCE = (
    "layer", "lch_height_raw", "lch_height_raw_tree", "lch_height_raw_neuron", "coverage_raw", "coverage_raw_tree",
    "coverage_raw_neuron", "fvu", "holdout_l0", "probe_accuracy", "dead_share",
)  # fmt: skip
_CONTROL_IMPORTANCE = (
    "shuffled_taxonomy", "exemplar", "random", "neuron", "kmeans", "untrained", "pca", "shuffled_labels", "class_mean",
)  # fmt: skip
_CHANCE_LEGEND = """\
coherence: mean similarity in the tree, in bits, of the classes of a latent's 16 strongest images, less that of classes
at random; p: by permuted trees. purity: share of the pairs of these images that are of one class; null: of images at
random. By chance it varies around that: `results study --metric purity_mean` has its interval, if enough classes carry
it. LCH excess: bits by which the lowest common hypernym of these classes is smaller than that of as many
at random; mean of so many latents: those of two classes that fire on 16 images. `--protocol paper`: LCH height and
coverage."""
_PAPER_LEGEND = """\
Raw means over all latents, not corrected for chance: they depend on how often latents fire. LCH height, coverage: of
the lowest common hypernym of the classes of a latent's 16 strongest images."""
_PAPER_IMAGES = {
    (True,): "The paper's protocol, in-sample: the images that trained an SAE are scored.",
    (False,): "The paper's measures of held-out images. Its protocol is in-sample: `submit --split none`.",
    (
        False,
        True,
    ): "The paper's measures. Tables titled in-sample follow its protocol; the others are of held-out images:"
    " `submit --split none` scores in-sample.",
}
_PROTOCOLS: dict[_Protocol, tuple[dict[str, str], tuple[str, ...]]] = {
    "chance": (marked(_CHANCE_COLUMNS), _CHANCE_IMPORTANCE),
    "paper": (marked(_PAPER_COLUMNS), _PAPER_IMPORTANCE),
}
_FULL_LEGEND = """\
F1: adjusted, mean over nodes with distinct images of the best latent; nodes of 3+, 2 and 1 scored classes, and all.
Rarefied share: of nodes with adjusted F1 >= .5, of as many columns as the smallest basis has, drawn at random. q<.01:
share of nodes that some column finds by the exact test. columns: how many the basis has; more have more chances;
rarefied: for how many the rarefied share is. train: of as many rows as are held out that the SAE trained on. dead:
beside train of these rows, else of all scored images."""
_HALVES = (
    "Each half of the images has its own tables, of SAEs that the other half trained; `results study` has their mean."
)
_LEGEND = """\
FVU, L0: of the rows that the SAE's training held out.
Baselines at the SAE's densities: exemplars, k-means = similarity to training images, to their clusters; PCA, random =
principal and random directions; neurons = raw neurons; untrained = the SAE before training; ceiling = class means,
which know the labels. Its own latents: ~labels = image labels shuffled; ~tree = classes shuffled over the tree, many
times, of the rarefied share and of q<.01 the few times that are scored in full.
probe: held-out accuracy of a linear probe for the class on the layer's raw activations."""


@click.command()
@study_option
@model_option
@dataset_option
@layer_option
@sae_option
@click.option(
    "--protocol",
    type=click.Choice(list(_PROTOCOLS)),
    default="chance",
    show_default=True,
    help="Coherence and LCH beside chance, or the paper's raw LCH height and coverage.",
)
@click.option("--full", is_flag=True, help="Also the tables of every control and of the training.")
@plot_option
@json_option
@pass_connections
def layers(
    connections: Connections,
    /,
    study: int | str | None,
    protocol: _Protocol,
    full: bool,
    plot: Path | None,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Scores of every layer, each SAE beside its controls."""
    rows = fetch_layers(connections, study=study, quiet=as_json, **wanted)
    if plot is not None and rows:
        # matplotlib takes half a second to load: only a picture needs it.
        from hsae.report.figure import figure_title, layer_figure

        layer_figure(rows, figure_title(rows, protocol), plot, protocol)
    if as_json:
        print_json(rows)
    else:
        print_layer_rows(rows, protocol, full=full)
    if plot is not None and rows:
        click.echo(f"Figure: {plot}", err=as_json)


def fetch_layers(
    connections: Connections, *, study: int | str | None, quiet: bool = True, **wanted: Any
) -> list[dict[str, Any]]:
    """Layer scores with those of the controls, of a study, of all or of the latest, with the SAEs' names and titles."""
    with transaction(connections.sessions) as session:
        rows, scope = layer_results(session, AnalysisFilter(**wanted), study=study)
    say(scope_note(scope), quiet=quiet)
    return rows


def print_layers(connections: Connections, *, study_id: int) -> None:
    """Print the layer tables of a study."""
    print_layer_rows(fetch_layers(connections, study=study_id))


def print_layer_rows(rows: list[dict[str, Any]], protocol: _Protocol = "chance", *, full: bool = False) -> None:
    """One table per model, data set and SAE; the paper's protocol and `full` add others.

    A warning says where the layers of a table differ in sparsity.
    """
    if not rows:
        click.echo("No scores fit: `hsae-admin submit --layer 8 --wait` makes some.")
        return
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get("title", f"{row['sae_kind']} SAE x{row['expansion']}"), []).append(row)
    out = console()
    further = [_PROTOCOLS[protocol]] if full or protocol == "paper" else []
    further += [*map(_score_table, _SCORES), (marked(_TRAINING_COLUMNS), ("layer",))] if full else []
    for title, group in groups.items():
        if protocol == "chance":
            cells = [headline_cells(row, CONTROL_HEADINGS) for row in group]
            out.print(table(cells, marked(_HEADLINE_COLUMNS), title=title, digits=2, importance=_HEADLINE_IMPORTANCE))
            out.print()
        for columns, importance in further:
            scored = {key: heading for key, heading in columns.items() if any(key in row for row in group)}
            shown = [row | {"coherence_p": _three_digits(row.get("coherence_p"))} for row in group]
            out.print(table(shown, scored, title=title, digits=2, importance=importance))
            out.print()
    warnings = [unequal_l0([row.get("holdout_l0") for row in group], f"{t}: its") for t, group in groups.items()]
    for warning in filter(None, warnings):
        out.print(warning, soft_wrap=True, markup=False)
    if all(any(SplitConfig(fold=fold).scored_half in title for title in groups) for fold in (0, 1)):
        out.print(_HALVES, soft_wrap=True)
    out.print(_legend(rows, protocol, full=full), soft_wrap=True)
    if full:
        out.print(_FULL_LEGEND, soft_wrap=True)
    if further:
        out.print(_LEGEND, soft_wrap=True)


def _legend(rows: list[dict[str, Any]], protocol: _Protocol, *, full: bool) -> str:
    """What the columns mean; of the paper's protocol also whether the rows follow it."""
    if protocol == "paper":
        images = _PAPER_IMAGES[tuple(sorted({bool(row.get("in_sample")) for row in rows}))]
        return f"{images}\n{_PAPER_LEGEND} {BOTH_LEGEND}"
    return f"{_HEADLINE_LEGEND}\n{_CHANCE_LEGEND}" if full else _HEADLINE_LEGEND


def _score_table(score: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The columns of a score beside all of its controls, and which of them stay longest in a narrow terminal."""
    columns = {"layer": "\nlayer", score: _SCORES[score]}
    columns |= {_beside(score, control): f"\n{heading}" for control, heading in CONTROL_HEADINGS.items()}
    if score == "n_latents":
        columns["n_rarefied"] = "\nrarefied"
    return marked(columns), ("layer", score, *(_beside(score, control) for control in _CONTROL_IMPORTANCE))


def _beside(score: str, control: str) -> str:
    """The name of a score's value of a control: of the shuffled taxonomy that of many shuffles, where there are any."""
    return f"{score}_tree" if control == "shuffled_taxonomy" and score in OF_TREE else f"{score}_{control}"


def _three_digits(p: float | None) -> str | None:
    """A p-value by 999 permutations: the digits that it has."""
    return None if p is None else f"{p:.3f}"
