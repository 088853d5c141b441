"""What only some studies have of an analysis: names by text beside the labels, and interventions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hsae.api.frames import frame
from hsae.api.service.arguments import number_at_least_0
from hsae.api.service.reading import losses_noted
from hsae.catalog import transaction
from hsae.catalog.findings.interventions.listed import TABLES, InterventionTable
from hsae.catalog.findings.interventions.listed import listing as intervention_listing
from hsae.catalog.findings.text.listed import NameTable, listing
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.exports.result_rows import filtered_rows

if TYPE_CHECKING:
    import pandas as pd

_OF_ANALYSIS = ("in_sample", "half", "layer", "sae", "analysis_id")
_OF_SET = ("method", "text_model", *_OF_ANALYSIS)
_COLUMNS: dict[NameTable, tuple[str, ...]] = {
    "names": (
        "latent", "word", "score", "margin", "runner_up", "synset", "label", "f1", "agreement_height", "n_images",
        *_OF_SET,
    ),
    "agreement": (
        "height", "n_latents", "n_agree", "n_agree_shuffled", "shuffled_low", "shuffled_high", "p", "n_words", *_OF_SET,
    ),
}  # fmt: skip
_EDIT = ("readout", "target", "arm", "draw", "dose")
_INTERVENTIONS: dict[InterventionTable, tuple[str, ...]] = {
    "edits": (
        "readout", "synset", "arm", "draw", "dose", "specificity", "specificity_low", "specificity_high",
        "specificity_log_odds", "specificity_log_odds_low", "specificity_log_odds_high", "accuracy_inside_before",
        "accuracy_inside_after", "accuracy_outside_before", "accuracy_outside_after", "forgetting", "retention",
        "distance_correlation", "distance_p",
    ),
    "contrasts": (
        "readout", "control", "synset", "n_nodes", "specificity_difference", "specificity_p", "equal_forgetting",
        "cost", "cost_control", "cost_p",
    ),
    "distances": (
        *_EDIT, "distance", "n_classes", "accuracy_drop", "accuracy_low", "accuracy_high", "accuracy_null_low",
        "accuracy_null_high", "log_odds_drop", "log_odds_low", "log_odds_high", "log_odds_null_low",
        "log_odds_null_high",
    ),
    "effects": (
        *_EDIT, "synset", "distance", "n_images", "accuracy_before", "accuracy_after", "log_odds_before",
        "log_odds_after",
    ),
    "readouts": (
        "readout", "loss_recovered_mean", "loss_recovered_zero", "cross_entropy", "cross_entropy_through_sae",
        "cross_entropy_mean_ablated", "cross_entropy_zero_ablated", "accuracy", "accuracy_through_sae", "chance",
        "intervention_set_id",
    ),
    "labels": (
        "readout", "latent", "synset", "n_images", "effect", "effect_low", "effect_high", "unit", "chance",
        "chance_low", "chance_high", "p", "q", "is_used", "accuracy_effect",
    ),
    "steerability": (
        "readout", "units", "amount", "share", "share_low", "share_high", "n_units", "shift", "moved", "n_images",
    ),
}  # fmt: skip
_OF_NO_NODE = ("readouts", "steerability")
_ASKED: dict[InterventionTable, str] = {
    "labels": "{'label_effects': 100}", "steerability": "{'steer': 100}", "readouts": "{'loss_recovered': True}",
}  # fmt: skip
"""What makes a table, where it is not nodes."""


def name_table(
    connections: Connections,
    about: Mapping[str, Any],
    table: NameTable,
    *,
    under: str | None = None,
    concept: str | None = None,
    limit: int | None = None,
) -> "pd.DataFrame":
    """The names of an analysis' latents, or their agreement with the labels.

    Args:
        connections: the service.
        about: the analysis.
        table: which.
        under: name or wnid of a node; only names that mean a node at or below it.
        concept: a text; the latents nearest to it come first, with their cosine `concept`.
        limit: at most so many rows.

    Raises:
        UserError: the analysis has no names, the node is unknown, the text or a number is none, or pandas is missing.
    """
    wanted = ScoreFilter(
        analysis_ids=(int(about["id"]),), limit=None if limit is None else number_at_least_0("limit", limit)
    )
    if concept is not None and not isinstance(concept, str):
        raise UserError(f"concept is {concept!r}: give a word or a phrase, such as striped")
    if concept is None:
        query = listing(table)
    else:
        # transformers comes with it, half a second: only a search needs the text tower.
        from hsae.pipeline.exports.text.concepts import concept_search

        query = concept_search(concept, connections.settings, connections.store)
    with losses_noted(connections), transaction(connections.sessions) as session:
        rows, _ = filtered_rows(session, query, wanted, under=under)
        if not rows and not listing(table)(session, ScoreFilter(analysis_ids=wanted.analysis_ids, limit=1)):
            raise UserError(
                f"analysis {about['id']} has no names by text: submit the same study with names={{'by': MODEL}}"
                " (docs/text.md)"
            )
    first = _COLUMNS[table]
    return frame(rows, first if concept is None else (first[0], "concept", *first[1:]))


def readout_table(connections: Connections, about: Mapping[str, Any]) -> "pd.DataFrame":
    """The readouts of an analysis' sets of interventions, unedited and through the SAE; without rows if there are none.

    Raises:
        UserError: pandas is missing.
    """
    with transaction(connections.sessions) as session:
        rows = intervention_listing("readouts")(session, ScoreFilter(analysis_ids=(int(about["id"]),)))
    return frame(rows, _INTERVENTIONS["readouts"])


def intervention_table(
    connections: Connections,
    about: Mapping[str, Any],
    table: InterventionTable,
    *,
    node: str | None,
    under: str | None,
    limit: int | None,
) -> "pd.DataFrame":
    """A table of an analysis' interventions.

    Args:
        connections: the service.
        about: the analysis.
        table: which.
        node: name or wnid of a node; only rows of this one.
        under: name or wnid of a node; only rows of nodes at or below it.
        limit: at most so many rows.

    Raises:
        UserError: there is no such table, the analysis has no rows in it, it is of no nodes, the node is unknown, a
            number is none, or pandas is missing.
    """
    if table not in TABLES:
        raise UserError(f"table is {table!r}: choose from {', '.join(TABLES)}")
    if table in _OF_NO_NODE and (node is not None or under is not None):
        raise UserError(f"the table {table} is of the whole layer: leave node and under out")
    of_analysis = ScoreFilter(analysis_ids=(int(about["id"]),), limit=1)
    wanted = replace(of_analysis, limit=None if limit is None else number_at_least_0("limit", limit))
    query = intervention_listing(table)
    with transaction(connections.sessions) as session:
        nodes = () if node is None else (node,)
        rows, _ = filtered_rows(session, query, wanted, nodes=nodes, under=under)
        if not rows and not query(session, of_analysis):
            asked = _ASKED.get(table, "{'nodes': [NODE]}")
            raise UserError(
                f"analysis {about['id']} has no interventions in the table {table}: submit the same study with"
                f" intervene={asked} (docs/interventions.md)"
            )
    return frame(rows, (*_INTERVENTIONS[table], *_OF_ANALYSIS))
