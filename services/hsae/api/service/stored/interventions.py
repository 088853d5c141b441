"""What stored interventions took away from an analysis, as tables."""

from dataclasses import replace
from typing import TYPE_CHECKING

from hsae.api.frames import frame
from hsae.api.service.analysis_tables import AnalysisTables
from hsae.api.service.arguments import number_at_least_0
from hsae.catalog import transaction
from hsae.catalog.findings.interventions.listed import TABLES, InterventionTable, listing
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.errors import UserError
from hsae.pipeline.exports.result_rows import filtered_rows

if TYPE_CHECKING:
    import pandas as pd

_OF_ANALYSIS = ("in_sample", "half", "layer", "layers", "sae", "analysis_id")
_EDIT = ("readout", "target", "arm", "draw", "dose")
_COLUMNS: dict[InterventionTable, tuple[str, ...]] = {
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


class StoredInterventions(AnalysisTables):
    """An analysis with the interventions that its studies asked for."""

    def readouts(self) -> "pd.DataFrame":
        """What readouts of the last layer lose where the SAE's reconstructions stand in the place of the activations.

        A row for each set of interventions and readout: accuracy, log-odds and cross-entropy before and after, beside
        chance, and the share of the cross-entropy that is recovered of what mean and zero ablation cost
        (`loss_recovered_mean`, `loss_recovered_zero`). `layers` has the layers whose reconstructions stand there: only
        rows with one layer are of this SAE alone, others are of several SAEs in one pass (`layers: together`). Without
        rows where the study has no interventions.

        Raises:
            UserError: pandas is missing.
        """
        with transaction(self.connections.sessions) as session:
            rows = listing("readouts")(session, ScoreFilter(analysis_ids=(self.id,)))
        return frame(rows, (*_COLUMNS["readouts"], "layers"))

    def interventions(
        self,
        table: InterventionTable = "edits",
        *,
        node: str | None = None,
        under: str | None = None,
        limit: int | None = None,
    ) -> "pd.DataFrame":
        """What stored interventions took away, as `hsae-admin results interventions` lists it.

        `layers` has the layers that were edited in one pass: that of the analysis and, with `layers: together`, further
        ones before it.

        Args:
            table: "edits" (figures of merit of every edit and of its controls, `arm`), "contrasts" (latents beside each
                control, with p), "distances" (drops by distance from the target, beside shuffled trees), "effects"
                (every node before and after), "readouts", "labels" (latents one by one at their labels, beside
                random ones) or "steerability" (latents beside neurons and random directions).
            node: name or wnid of a node; only rows of it: the target, of effects the node of the effect.
            under: the same, or any node below it.
            limit: at most so many rows.

        Raises:
            UserError: there is no such table, the analysis has no rows in it (it tells how to make them), the node is
                unknown, the table is of no nodes, a number is none, or pandas is missing.
        """
        if table not in TABLES:
            raise UserError(f"table is {table!r}: choose from {', '.join(TABLES)}")
        if table in _OF_NO_NODE and (node is not None or under is not None):
            raise UserError(f"the table {table} is of the whole layer: leave node and under out")
        of_analysis = ScoreFilter(analysis_ids=(self.id,), limit=1)
        wanted = replace(of_analysis, limit=None if limit is None else number_at_least_0("limit", limit))
        query = listing(table)
        with transaction(self.connections.sessions) as session:
            nodes = () if node is None else (node,)
            rows, _ = filtered_rows(session, query, wanted, nodes=nodes, under=under)
            if not rows and not query(session, of_analysis):
                asked = _ASKED.get(table, "{'nodes': [NODE]}")
                raise UserError(
                    f"analysis {self.id} has no interventions in the table {table}: submit the same study with"
                    f" intervene={asked} (docs/interventions.md); edits of several layers in one pass"
                    " (`layers: together`) are listed under the deepest of them"
                )
        return frame(rows, (*_COLUMNS[table], *_OF_ANALYSIS))
