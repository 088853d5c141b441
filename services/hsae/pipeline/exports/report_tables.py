"""The tables of a report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hsae.pipeline.exports.sae_names import trend_names
from hsae.pipeline.exports.study_rows import StudyRows
from hsae.report.interval_table import verdict
from hsae.report.page import Drawn, Table

_Rows = Sequence[Mapping[str, Any]]

MAX_NODE_ROWS = 20_000
_LAYERS = {
    "sae": "SAE", "layer": "layer", "fvu": "FVU", "holdout_l0": "L0", "coherence_excess": "coherence excess, bits",
    "coherence_excess_low": "from", "coherence_excess_high": "to", "coherence_excess_tree": "shuffled trees",
    "coherence_excess_tree_q975": "97.5 % of them", "f1_adjusted_inner": "inner F1, adjusted",
    "f1_adjusted_inner_low": "from", "f1_adjusted_inner_high": "to", "f1_adjusted_inner_best_baseline": "best baseline",
    "best_baseline": "which", "f1_adjusted_inner_tree": "shuffled trees",
    "f1_adjusted_inner_tree_q975": "97.5 % of them", "share_nodes_q": "nodes found (q < .01)",
    "probe_accuracy": "probe accuracy", "analysis_id": "analysis",
}  # fmt: skip
_TRENDS = {
    "metric": "measure", "sae": "SAE", "slope": "slope per layer", "ci_low": "from", "ci_high": "to",
    "n_layers": "layers", "rises": "rises with depth?",
}  # fmt: skip
_KNOWN = {
    "synset": "node", "n_classes": "classes", "n_images": "scored images", "layer": "layer", "latent": "latent",
    "f1_adjusted": "adjusted F1", "q": "q, all layers", "baseline": "best baseline", "baseline_name": "which",
    "shuffled": "shuffled tree", "analysis_id": "analysis",
}  # fmt: skip
_LATENTS = {
    "synset": "label", "layer": "layer", "sae": "SAE", "latent": "latent", "f1_adjusted": "adjusted F1",
    "baseline_adjusted": "best baseline", "baseline": "which", "tree_adjusted": "shuffled tree", "q": "q", "f1": "F1",
    "f1_chance": "by chance", "precision": "precision", "precision_chance": "by chance", "recall": "recall",
    "recall_chance": "by chance", "auroc": "AUROC", "coherence": "coherence, bits",
    "coherence_excess": "beyond chance", "n_fire": "fires on", "analysis_id": "analysis",
}  # fmt: skip
_EFFECTS = {
    "label_effect": "effect at the label", "effect_chance_high": "97.5 % of random latents", "effect_q": "q of it",
    "used": "used",
}  # fmt: skip
_NAMES = {
    "text_name": "name by text", "name_score": "score", "name_margin": "margin", "name_runner_up": "runner-up",
    "name_height": "meets the label at height", "name_height_chance": "shuffled words",
}  # fmt: skip
_NODES = {
    "synset": "node", "wnid": "wnid", "layer": "layer", "sae": "SAE", "latent": "latent", "f1_adjusted": "adjusted F1",
    "f1_adjusted_baseline": "best baseline", "baseline": "which", "f1_adjusted_shuffled": "shuffled tree",
    "q_node": "q", "n_images": "scored images", "n_classes": "classes", "analysis_id": "analysis",
}  # fmt: skip


def report_tables(rows: StudyRows, known: _Rows) -> list[Table]:
    """All tables, those of few rows first; rows of a study without a split say so in a column of the CSV.

    Args:
        rows: of the study.
        known: of `known_nodes`.
    """
    in_sample = {row["analysis_id"]: row["split"] is None for row in rows.analyses}

    def marked(found: _Rows, drawn: Drawn = rows.drawn) -> list[dict[str, Any]]:
        about = {row["analysis_id"]: {"sae": row["sae"], "layer": row["layer"]} for row in drawn.analyses}
        return [{**about[row["analysis_id"]], **row, "in_sample": _yes(in_sample[row["analysis_id"]])} for row in found]

    trends = [
        {**row, "sae": name, "rises": verdict(row)}
        for row, name in zip(rows.trends, trend_names(rows.trends), strict=True)
    ]
    nodes, note = _nodes(rows)
    tables = [
        Table("layers", "Headline numbers of every layer", _LAYERS, marked(rows.drawn.layers)),
        Table("halves", "Headline numbers of each half", _LAYERS, _halves(rows, marked), shown=False),
        Table("trends", "With depth", _TRENDS, marked(trends)),
        Table("known-nodes", "Inner nodes by their best latent", _KNOWN, marked(known)),
        Table("latents", "Latents of the cards", *_latents(marked(rows.latents, rows.single)), shown=False),
        Table("nodes", "Every node at every layer", _NODES, marked(nodes), shown=False, note=note),
    ]
    return [_with_mark(table, any(in_sample.values())) for table in tables if table.rows]


def _latents(found: _Rows) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The columns that some of the latents have, and the rows."""
    columns = {
        **_LATENTS,
        **(_EFFECTS if any(row["is_used"] is not None for row in found) else {}),
        **(_NAMES if any(row["text_name"] is not None for row in found) else {}),
    }
    return columns, [{**row, "used": None if row["is_used"] is None else _yes(row["is_used"])} for row in found]


def _halves(rows: StudyRows, marked: Callable[[_Rows, Drawn], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of each half by itself, where the first table has their means."""
    return marked(rows.single.layers, rows.single) if rows.drawn.is_averaged else []


def _nodes(rows: StudyRows) -> tuple[list[dict[str, Any]], str]:
    """The scores of all nodes, as many as fit, and what to say where that is not all of them."""
    about = {row["synset_id"]: row for row in rows.nodes}
    scored = [row for row in rows.drawn.scores if row["f1_adjusted"] is not None and row["synset_id"] in about]
    note = ""
    if len(scored) > MAX_NODE_ROWS:
        note = f"The {MAX_NODE_ROWS:,} rows of {len(scored):,} with the greatest adjusted F1; SQL has all of them."
        scored = sorted(scored, key=lambda row: -row["f1_adjusted"])[:MAX_NODE_ROWS]
    names = ("synset", "wnid", "n_classes")
    return [{**row, **{name: about[row["synset_id"]][name] for name in names}} for row in scored], note


def _with_mark(table: Table, in_sample: bool) -> Table:
    columns = {**table.columns, "in_sample": "in-sample"} if in_sample else table.columns
    return replace(table, columns=columns)


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"
