"""From the rows of a study to what its report says."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from hsae.backbones.names import random_init_name, short_model_name
from hsae.pipeline.exports.report_tables import report_tables
from hsae.pipeline.exports.sae_names import trend_names
from hsae.pipeline.exports.study_rows import StudyRows
from hsae.pipeline.kinds.setting_labels import sae_label
from hsae.report.charts import (
    MEASURES,
    edit_about,
    edit_figure,
    edit_title,
    headline_figure,
    headline_points,
    known_nodes,
    known_nodes_figure,
    pareto_figure,
    taxonomy_chart,
)
from hsae.report.charts.theme import Figure
from hsae.report.headline_table import COHERENCE
from hsae.report.page import Card, ReportContent, Trend, verdict_text
from hsae.report.page.unmeasured import unmeasured_text
from hsae.report.page.verdict import beyond_chance, known_text
from hsae.report.ranges import ranges
from hsae.report.sparsity import unequal_l0
from hsae.sae.config import SaeConfig
from hsae.split_config import split_label

_N_KNOWN = 12
_MAX_FRAMES = 48
_MAX_DRAWN_NODES = 100_000
"""Analyses whose taxonomy is drawn, and its nodes in all of them: each takes some 75 bytes of the file."""
_KNOWN_TITLE = "What single latents know best"


def report_content(rows: StudyRows, cards: Sequence[Card], trouble: Sequence[str]) -> ReportContent:
    """What the report says.

    Args:
        rows: of the study.
        cards: of `rows.latents`.
        trouble: what the cards could not show, in sentences.
    """
    shown = rows.drawn
    in_sample = any(row["split"] is None for row in rows.analyses)
    points = {
        name: headline_points(shown.analyses, shown.intervals, shown.shuffled, measure.metric)
        for name, measure in MEASURES.items()
    }
    main = str(shown.analyses[0]["sae"])
    layer_of = {row["analysis_id"]: row["layer"] for row in shown.analyses if row["sae"] == main}
    known, n_inner = known_nodes([row for row in shown.scores if row["analysis_id"] in layer_of], rows.nodes, layer_of)
    answer, verdict = _verdict(rows)
    coherence = MEASURES["coherence"]
    panels = {
        measure.title: headline_figure(points[name], measure, shown=main)
        for name, measure in MEASURES.items()
        if any(point["value"] is not None for point in points[name])
    }
    abouts = {measure.title: measure.about for measure in MEASURES.values()}
    of_main = [point for point in points["coherence"] if point["sae"] == main]
    hero: dict[str, Figure] = {}
    if coherence.title in panels:
        hero[f"{coherence.title} ({main})"] = headline_figure(of_main, coherence)
    if known:
        title = f"{_KNOWN_TITLE} ({main})"
        hero[title] = known_nodes_figure(known[:_N_KNOWN], main)
        abouts[title] = _about_known(len(layer_of))
    scored = {score["analysis_id"] for score in shown.scores}
    drawn = [row for row in shown.analyses if row["analysis_id"] in scored]
    abouts[f"{coherence.title} ({main})"] = coherence.about
    abouts |= {edit_title(edit): edit_about(edit) for edit in rows.edits}
    return ReportContent(
        title=_title(rows),
        study=rows.study["id"],
        facts=_facts(rows),
        answer=answer,
        verdict=verdict,
        beyond=beyond_chance(points["coherence"], main),
        known=known_text(known, n_inner, main),
        in_sample=in_sample,
        halves=_about_halves(rows),
        unfinished=rows.unfinished[:1].upper() + rows.unfinished[1:] + "." if rows.unfinished else "",
        hero=hero,
        layers=panels,
        pareto=_pareto(rows),
        edits={edit_title(edit): edit_figure(rows.nodes, edit, edit["taken"]) for edit in rows.edits},
        abouts=abouts,
        taxonomy=taxonomy_chart(rows.nodes, shown.scores, drawn[: _n_frames(rows)]) if drawn else None,
        cards=cards,
        n_labelled=sum(row["n_labelled"] for row in rows.analyses),
        unmeasured=[
            *unmeasured_text(rows.analyses, in_sample=in_sample, skipped=rows.skipped),
            *trouble,
            *_left_out(rows, drawn),
        ],
        tables=report_tables(rows, known),
        version=version("hsae"),
    )  # fmt: skip


def _verdict(rows: StudyRows) -> tuple[str, str]:
    coherent = [row for row in rows.trends if row["metric"] == COHERENCE]
    if not coherent and rows.untested:
        return "Not tested", f"The trend with depth is not tested: {rows.untested}."
    names = trend_names(coherent)
    trends = [
        Trend(name, row["slope"], row["ci_low"], row["ci_high"], row["n_layers"])
        for name, row in zip(names, coherent, strict=True)
    ]
    return verdict_text(trends, rows.confidence)


def _about_known(n_layers: int) -> str:
    choice = f", each at the best of {n_layers} layers, controls too" if n_layers > 1 else ""
    return (
        "Nodes of three or more classes and five or more scored images, by the adjusted F1 of their best latent"
        f"{choice}; the greatest of many are flattered. Hollow: the exact test does not find the node."
    )


def _pareto(rows: StudyRows) -> dict[str, Figure]:
    """The SAEs compared; not the halves of a study, which are one configuration on other images."""
    if _has_halves(rows) and not rows.drawn.is_averaged:
        return {}
    figures = {
        "Reconstruction against sparsity": pareto_figure(rows.drawn.layers, "fvu"),
        "Coherence against sparsity": pareto_figure(rows.drawn.layers, "coherence_excess"),
    }
    return {title: figure for title, figure in figures.items() if figure["data"]}


def _has_halves(rows: StudyRows) -> bool:
    return any((row["split"] or {}).get("fold") for row in rows.analyses)


def _about_halves(rows: StudyRows) -> str:
    """What a reader must know of a cross-fitted study before a number; empty for others."""
    if rows.drawn.is_averaged:
        return (
            "Cross-fitted: each half of the images is scored by SAEs that the other half trained. Figures, nodes and"
            " the tables are means over both halves, and their intervals have the spread between them; of a node the q"
            " is that of the less sure half. A card shows a latent of one half, as its line says."
        )
    if _has_halves(rows):
        return (
            "Cross-fitted, and the halves are not averaged yet: that takes the comparison, which is not made. Until"
            " then every line, node and latent is of one half, as its name says."
        )
    return ""


def _n_frames(rows: StudyRows) -> int:
    """Analyses whose taxonomy fits the file; at least one."""
    return max(1, min(_MAX_FRAMES, _MAX_DRAWN_NODES // max(1, len(rows.nodes))))


def _left_out(rows: StudyRows, drawn: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was measured and does not fit, or is not comparable."""
    sentences = []
    n_frames = _n_frames(rows)
    if len(drawn) > n_frames:
        sentences.append(
            f"The taxonomy shows the first {n_frames} of {len(drawn)} analyses; `hsae-admin results tree` has the"
            " others."
        )
    defined = {row["synset_id"] for row in rows.drawn.scores if row["f1_adjusted"] is not None}
    n_silent = sum(row["synset_id"] not in defined for row in rows.nodes)
    if n_silent:
        sentences.append(
            f"{n_silent} of {len(rows.nodes)} nodes have no scored image, or all of them: no score is defined."
        )
    warning = unequal_l0([row["holdout_l0"] for row in rows.analyses], "the SAEs'")
    return [*sentences, warning] if warning else sentences


def _title(rows: StudyRows) -> str:
    first = rows.analyses[0]
    model = short_model_name(first["model"])
    seed = rows.study["random_init"]
    return (
        f"{model if seed is None or '(random init' in model else random_init_name(model, seed)} on {first['dataset']}"
    )


def _facts(rows: StudyRows) -> list[tuple[str, str]]:
    first = rows.analyses[0]
    saes = dict.fromkeys(sae_label(SaeConfig.parse(row["sae_config"])) for row in rows.analyses)
    images = f"{first['dataset_images']:,} images of {first['dataset_classes']:,} classes"
    submitted = f"{rows.study['submitted_at']:%Y-%m-%d %H:%M %Z}"
    layers = ranges(sorted({row["layer"] for row in rows.analyses}))
    return [
        ("Study", f"{rows.study['id']}, {rows.study['name']}, submitted {submitted}"),
        ("Backbone", f"{short_model_name(first['model'])}, revision {first['revision'][:19]}"),
        ("Layers", f"{layers} (residual stream, {first['tokens']} tokens)"),
        ("Data set", f"{first['dataset']}: {images}, from {first['dataset_root']}"),
        *([("SAEs are trained on", str(rows.study["dataset"]))] if rows.study["score_dataset"] is not None else []),
        ("Taxonomy", f"{first['taxonomy']}: {first['dataset_nodes']:,} nodes, the classes and all above them"),
        ("Split", "; ".join(dict.fromkeys(_split(row) for row in rows.analyses))),
        ("SAEs", "; ".join(saes)),
    ]


def _split(row: Mapping[str, Any]) -> str:
    if row["split"] is None:
        return "none: every image trains the SAEs, chooses latents and is scored (in-sample)"
    counts = [
        f"{row[f'n_{part}']:,} images {what}"
        for part, what in (("train", "train the SAEs"), ("select", "choose latents"), ("score", "are scored"))
        if row[f"n_{part}"] is not None
    ]
    return f"{split_label(row['split'])}: {', '.join(counts)}"
