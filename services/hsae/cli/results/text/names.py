"""hsae-admin results names: what latents are called by text."""

from typing import Any

import click

from hsae.catalog.findings.text.listed import TABLES, NameTable, listing
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.better import print_marked_rows
from hsae.cli.results.filters import (
    analysis_option,
    filtered_rows,
    in_sample,
    layer_option,
    limit_option,
    sae_option,
    study_option,
)
from hsae.errors import UserError

_ANALYSIS = {"analysis_id": "analysis", "layer": "layer", "sae": "SAE", "method": "by"}
_NAMES = {
    **_ANALYSIS, "latent": "latent", "word": "name", "score": "score", "margin": "margin", "runner_up": "runner-up",
    "synset": "node", "label": "label", "f1": "F1", "agreement_height": "agree from height", "n_images": "images",
}  # fmt: skip
_COLUMNS: dict[NameTable, dict[str, str]] = {
    "names": _NAMES,
    "agreement": {
        **_ANALYSIS, "height": "height", "n_latents": "latents", "n_agree": "agree", "n_agree_shuffled": "~words",
        "shuffled_low": "from", "shuffled_high": "to", "p": "p", "n_words": "words",
    },
}  # fmt: skip
_IMPORTANCE = (
    "word", "latent", "concept", "score", "margin", "label", "agreement_height", "height", "n_agree",
    "n_agree_shuffled", "shuffled_low", "shuffled_high", "n_latents", "layer", "sae", "method",
)  # fmt: skip
_EMPTY = (
    "No names fit: `hsae-admin submit` with the same options and --name-by MODEL makes them and reuses all the rest."
)


@click.command()
@analysis_option
@study_option
@layer_option
@sae_option
@click.option("--node", "nodes", multiple=True, help="Only names that mean this node; may be given several times.")
@click.option("--under", help="Only names of nodes at or below this one.")
@click.option(
    "--table", "which", type=click.Choice(TABLES), default="names", show_default=True,
    help="The name of every latent, or how many names agree with the labels at every height, beside chance.",
)  # fmt: skip
@click.option(
    "--concept", metavar="TEXT", help="Latents nearest to a word or phrase, which need not be of the vocabulary."
)
@limit_option
@json_option
@pass_connections
def names(connections: Connections, /, which: NameTable, concept: str | None, as_json: bool, **wanted: Any) -> None:
    """What latents are called by text, the greatest cosine first.

    score: cosine of the latent's direction with the word, less the mean of all words; margin: the same less that of the
    runner-up. agree from height: 0 where the name is the latent's label, else the height of the lowest node above
    both. ~words: how many would agree with the words shuffled over their nodes, with 95 % of the shuffles. With
    --concept the text tower reads the text now and compares it with the stored directions. docs/text.md has the
    formulas.
    """
    if concept is not None and which != "names":
        raise UserError("--concept lists latents: leave --table out")
    query = listing(which)
    columns = _COLUMNS[which]
    some = wanted | {"limit": 1}
    if concept is not None and filtered_rows(connections, query, ScoreFilter, quiet=True, kept="names", **some):
        # torch comes with it: only a search of what has names needs the text tower.
        from hsae.pipeline.exports.text.concepts import concept_search

        query = concept_search(concept, connections.settings, connections.store)
        columns = {**_ANALYSIS, "latent": "latent", "concept": "concept"} | _NAMES
    rows = filtered_rows(connections, query, ScoreFilter, quiet=as_json, kept="names", **wanted)
    title = None if as_json else in_sample(connections, rows)
    print_marked_rows(rows, columns, as_json=as_json, empty=_EMPTY, title=title, importance=_IMPORTANCE)
