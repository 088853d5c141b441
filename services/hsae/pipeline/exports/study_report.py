"""A study as one HTML file: its rows, images and histograms are collected here and drawn by `hsae.report.page`."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import JOB_STATES, UNSUCCESSFUL_STATES, Dataset, transaction
from hsae.catalog.findings.interventions.pictured import pictured_edits, taken_away
from hsae.catalog.findings.layer_headlines import headline_intervals, shuffled_trees
from hsae.catalog.findings.maps import map_rows
from hsae.catalog.findings.reported.node_nulls import best_labelled_latents, node_null_rows
from hsae.catalog.findings.scores import layer_rows
from hsae.catalog.findings.study_intervals import (
    comparison_scores,
    comparison_trends,
    find_comparison,
    first_analyses,
)
from hsae.catalog.findings.tree import tree_nodes
from hsae.catalog.queries.conditions import Row
from hsae.catalog.queries.known_names import study_analyses
from hsae.catalog.queries.measurements import class_labels, measured_analyses, taxonomy_root
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.catalog.queries.skipped_images import skipped_images
from hsae.catalog.queries.studies import show_study
from hsae.errors import UserError
from hsae.pipeline.exports.report_cards import CardMaker
from hsae.pipeline.exports.report_content import report_content
from hsae.pipeline.exports.sae_names import named_saes, with_seeds
from hsae.pipeline.exports.study_rows import StudyRows
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy
from hsae.relevancy.config import EXPLAINING
from hsae.report.headline_table import with_headlines
from hsae.report.layer_table import beside_controls
from hsae.report.page import Drawn, averaged, render_report
from hsae.store.objects import ObjectStore

MAX_CARDS = 72
"""Latents with a card; their images are most of what a report of many layers weighs."""
_MAX_CARDS_EACH = 12
_MAX_EDITS = 6


def write_report(study: int, path: Path, sessions: sessionmaker[Session], store: ObjectStore) -> Row:
    """Write the report of a study to a file, which replaces an earlier one.

    Returns:
        study, path, n_bytes, n_analyses, n_cards, and `unfinished`, why the study is not complete, or "".

    Raises:
        UserError: there is no such study, it has no scores yet, or the file cannot be written.
    """
    with transaction(sessions) as session:
        rows = _rows(session, study)
        dataset = dataset_ref(session.get_one(Dataset, rows.analyses[0]["dataset_id"]))
        labels = class_labels(session, dataset.id)
    maker = CardMaker(store, read_listing(store, dataset), read_taxonomy(store, dataset), labels, dataset.root)
    cards = maker.cards(rows.latents, {row["analysis_id"]: row for row in rows.analyses}, rows.maps)
    content = report_content(rows, cards, maker.trouble)
    page = render_report(content).encode()
    _write(path, page)
    return {
        "study": study, "path": str(path), "n_bytes": len(page), "n_analyses": len(rows.analyses),
        "n_cards": len(cards), "unfinished": content.unfinished,
    }  # fmt: skip


def _rows(session: Session, study: int) -> StudyRows:
    """Everything that the catalog has of the study's analyses."""
    about = show_study(session, study)
    numbers = study_analyses(session, study)
    unfinished = _unfinished(about)
    if not numbers:
        why = f": {unfinished}" if unfinished else ": it analyses nothing"
        raise UserError(f"study {study} has no scores to report yet{why}; see `hsae-admin studies show {study}`")
    analyses = named_saes(session, measured_analyses(session, numbers))
    place = {row["analysis_id"]: place for place, row in enumerate(analyses)}
    names = {row["analysis_id"]: row["sae"] for row in analyses}
    found = headline_intervals(session, numbers), shuffled_trees(session, numbers)
    of_layers = beside_controls(layer_rows(session, AnalysisFilter(analysis_ids=tuple(numbers))))
    layers = [with_headlines(row, *found) | {"sae": names[row["analysis_id"]]} for row in of_layers]
    single = Drawn(
        analyses=analyses,
        layers=sorted(layers, key=lambda row: place[row["analysis_id"]]),
        intervals=found[0],
        shuffled=found[1],
        scores=node_null_rows(session, numbers),
    )
    trends, confidence, untested, drawn = _compared(session, study, single)
    dataset_id = analyses[0]["dataset_id"]
    skipped = skipped_images(session, study)
    latents = _surest_first(best_labelled_latents(session, numbers, n_each=_n_each(len(numbers)))[:MAX_CARDS])
    return StudyRows(
        study=about,
        analyses=analyses,
        single=single,
        drawn=drawn,
        trends=trends,
        confidence=confidence,
        untested=untested,
        nodes=tree_nodes(session, dataset_id=dataset_id, root=taxonomy_root(session, dataset_id), depth=None),
        latents=latents,
        maps=[row for number in numbers for row in _maps(session, number, latents)],
        edits=[edit | {"taken": taken_away(session, edit)} for edit in _edits(session, numbers, dataset_id)],
        skipped=[
            (one.dataset, one.n_skipped, one.n_images)
            for one in (skipped.trains, skipped.scores)
            if one is not None and one.n_skipped
        ],
        unfinished=unfinished,
    )


def _surest_first(latents: Sequence[Row]) -> list[Row]:
    """The cards' order: by q, then those that fire on three images or more, then by adjusted F1."""

    def doubt(row: Row) -> tuple[float, bool, float]:
        q, f1 = row["q"], row["f1_adjusted"]
        return (2.0 if q is None else q, row["n_fire"] < 3, 2.0 if f1 is None else -f1)

    return sorted(latents, key=doubt)


def _maps(session: Session, analysis_id: int, latents: Sequence[Row]) -> list[Row]:
    """The maps of the analysis' latents with a card, by the method that is meant for them; no control."""
    wanted = [row["latent"] for row in latents if row["analysis_id"] == analysis_id]
    rows = map_rows(session, analysis_id, wanted, methods=EXPLAINING) if wanted else []
    made = {row["method"] for row in rows}
    method = next((name for name in EXPLAINING if name in made), None)
    return [row for row in rows if row["method"] == method]


def _edits(session: Session, numbers: Sequence[int], dataset_id: int) -> list[Row]:
    """The edits that are drawn: of the data set whose taxonomy the report draws."""
    return [row for row in pictured_edits(session, numbers, limit=_MAX_EDITS) if row["dataset_id"] == dataset_id]


def _n_each(n_analyses: int) -> int:
    return max(1, min(_MAX_CARDS_EACH, MAX_CARDS // n_analyses))


def _compared(session: Session, study: int, single: Drawn) -> tuple[list[Row], float, str, Drawn]:
    """The trends with depth, the confidence of their intervals, why there are none, and what is drawn first."""
    try:
        comparison = find_comparison(session, study)
    except UserError as error:
        return [], 0.0, str(error), single
    place = {row["analysis_id"]: place for place, row in enumerate(single.analyses)}
    trends = [row for row in comparison_trends(session, comparison["id"]) if row["analysis_id"] in place]
    trends.sort(key=lambda row: place[row["analysis_id"]])
    drawn = _averaged(session, comparison["id"], single) if comparison["cross_fitted"] else single
    return trends, comparison["config"]["confidence"], "", drawn


def _averaged(session: Session, comparison: int, single: Drawn) -> Drawn:
    """The means over halves, and over the seeds of an SAE, of what the comparison averages."""
    first_of = {
        number: first
        for number, first in first_analyses(session, comparison).items()
        if any(row["analysis_id"] == number for row in single.analyses)
    }
    scores = comparison_scores(session, comparison)
    n_seeds = {row["analysis_id"]: row["n_seeds"] or 1 for row in scores}
    first = named_saes(session, [row for row in single.analyses if row["analysis_id"] in first_of.values()])
    names = {row["analysis_id"]: with_seeds(row["sae"], n_seeds.get(row["analysis_id"], 1)) for row in first}
    return averaged(single, first_of, names, scores)


def _unfinished(study: Mapping[str, Any]) -> str:
    """How many jobs of the study have not succeeded, by state; empty where all have."""
    states = study["jobs"] or {}
    counts = [f"{states[state]} {state}" for state in JOB_STATES if state in states and state != "succeeded"]
    if not counts:
        return ""
    failed = any(state in states for state in UNSUCCESSFUL_STATES)
    return f"jobs of this study are not done ({', '.join(counts)})" + (", so parts are missing" if failed else "")


def _write(path: Path, page: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(page)
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise UserError(f"{path} cannot be written ({error.strerror or error}): choose another with -o") from error
