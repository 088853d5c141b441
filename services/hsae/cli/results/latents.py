"""hsae-admin results latents: latents with their labels."""

from typing import Any

import click

from hsae.catalog.findings.scores import latent_rows
from hsae.catalog.queries.score_filter import LatentFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.better import print_marked_rows
from hsae.cli.printing.output import print_json
from hsae.cli.results.filters import (
    CONTROL_COLUMNS,
    analysis_option,
    column_basis_option,
    filtered_rows,
    in_sample,
    label_q_option,
    layer_option,
    limit_option,
    min_f1_option,
    sae_option,
    scored_columns,
    study_option,
)
from hsae.report.identical_latents import merge_identical_latents

_COLUMNS = {
    "analysis_id": "analysis", "layer": "layer", "sae": "SAE", "shown_latent": "latent", "synset": "label",
    "f1": "F1", **CONTROL_COLUMNS, "f1_adjusted": "adjusted F1", "q": "q", "precision": "precision",
    "recall": "recall", "auroc": "AUROC", "coherence_excess": "coherence", "lch": "LCH", "lch_excess": "LCH excess",
    "n_fire": "fires on", "label_effect": "effect", "effect_chance_high": "~latents",
    "effect_q": "q ", "used": "used", "seed_stability": "seeds", "stability_chance": "by chance",
}  # fmt: skip
_IMPORTANCE = (
    "synset", "f1", "shown_latent", "layer", "sae", "analysis_id", *CONTROL_COLUMNS, "coherence_excess", "f1_adjusted",
    "q", "used", "label_effect", "effect_chance_high", "precision", "recall",
)  # fmt: skip
_ALIKE = "+1: that many further latents of the analysis have the same label and the same numbers; --json lists each."

_EFFECTS = ("label_effect", "effect_chance_high", "effect_q", "used")
_EFFECT = (
    "effect: what the label loses without the latent, more than other classes do; ~latents: 97.5 % of random ones that"
    " fire as often stay below that."
)
_STABILITY = ("seed_stability", "stability_chance")
_SHARED = "seeds: in dictionaries of this size the match is the most similar latent, which several may share."


@click.command()
@analysis_option
@study_option
@layer_option
@sae_option
@column_basis_option
@click.option("--node", "nodes", multiple=True, help="Only latents with this label; may be given several times.")
@click.option("--under", help="Only labels at or below this node (dog.n.01 or n02084071).")
@min_f1_option
@label_q_option
@click.option("--min-coherence", type=float, help="Only a coherence excess of at least so many bits; best first.")
@click.option(
    "--min-stability", type=click.FloatRange(-1, 1),
    help="Only latents that other seeds of their SAE find again with at least this cosine.",
)  # fmt: skip
@click.option("--used", is_flag=True, help="Only latents that the model was measured to use for their label.")
@click.option(
    "--min-effect", type=float,
    help="Only latents whose label loses at least so much more than other classes without them (log-odds).",
)  # fmt: skip
@limit_option
@json_option
@pass_connections
def latents(connections: Connections, /, as_json: bool, **wanted: Any) -> None:
    """Latents with their labels, best F1 first.

    coherence: excess of the taxonomic coherence in bits. It says how much closer in the tree the classes of the
    latent's 16 strongest images are than classes at random; "-" for latents of one class. LCH excess: by how many bits
    the lowest common hypernym of these classes is smaller than that of as many at random; "-" unless the latent has two
    classes and fires on 16 images. JSON has the raw LCH height and coverage, which depend on how often a latent fires.

    Beside a latent's F1, what the best column of any baseline (baseline), the best raw neuron (neurons) and the best
    latent under a shuffled taxonomy (~tree, mean over seeds) reach at its label. Where a study has several seeds of an
    SAE, `seeds` is the mean cosine of a latent's decoder direction with its match in the other seeds, and `by chance`
    what untrained SAEs give. Latents of one analysis with the same label and the same numbers share a row, and --limit
    counts rows; JSON has every latent.

    Where interventions took latents away one by one (`label_effects` of `submit --intervene`), `effect` is how much
    more log-odds the label loses than other classes, beside what 97.5 % of random latents that fire as often stay below
    (~latents); `used` is yes where it is above that with a q of at most 0.05.
    """
    if as_json:
        print_json(filtered_rows(connections, latent_rows, LatentFilter, quiet=True, **wanted))
        return
    rows = _alike_rows(connections, **wanted)
    for row in rows:
        n_more = len(row["latents"]) - 1
        row["shown_latent"] = f"{row['latent']} +{n_more}" if n_more else row["latent"]
        row["used"] = None if row["is_used"] is None else ("yes" if row["is_used"] else "no")
    print_marked_rows(rows, _columns(rows), as_json=False, empty="No latent fits.",
                      title=in_sample(connections, rows), importance=_IMPORTANCE)  # fmt: skip
    if any(len(row["latents"]) > 1 for row in rows):
        click.echo(f"\n{_ALIKE}")
    if any(row["is_used"] is not None for row in rows):
        click.echo(f"\n{_EFFECT}")
    if any(row["is_one_to_one"] is False for row in rows):
        click.echo(f"\n{_SHARED}")


def _columns(rows: list[dict[str, Any]]) -> dict[str, str]:
    missing = {
        *(_STABILITY if all(row["seed_stability"] is None for row in rows) else ()),
        *(_EFFECTS if all(row["is_used"] is None for row in rows) else ()),
    }
    return {name: heading for name, heading in scored_columns(_COLUMNS, rows).items() if name not in missing}


def _alike_rows(connections: Connections, *, limit: int, **wanted: Any) -> list[dict[str, Any]]:
    """The first `limit` rows of identical latents, each with all of its latents."""
    n_latents, order = limit, "f1" if wanted["min_coherence"] is None else "coherence_excess"
    while True:
        found = filtered_rows(
            connections, latent_rows, LatentFilter, quiet=n_latents > limit, limit=n_latents, **wanted
        )
        rows = merge_identical_latents(found, _COLUMNS.keys() - {"shown_latent", "used", *_STABILITY})
        if len(found) < n_latents:
            return rows[:limit]
        # They come by score and analysis, which identical ones share: only the last of both may go on behind it.
        open_end = (found[-1][order], found[-1]["analysis_id"])
        if len(rows) >= limit and (rows[limit - 1][order], rows[limit - 1]["analysis_id"]) != open_end:
            return rows[:limit]
        n_latents *= 4
