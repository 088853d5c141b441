"""What controls reach where the SAE's latents have their scores."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row

CONTROLS = ("neuron", "shuffled_taxonomy")


def add_controls(session: Session, rows: Sequence[Row]) -> None:
    """Set in the rows of the basis `sae` what its controls reach at the same node (`synset_id`) of the same analysis.

    `f1_neuron` is the best raw neuron's F1, `f1_shuffled_taxonomy` the best latent's where the classes are shuffled
    over the tree, as the mean over seeds. A node where no column of a control fires counts as 0; both are None in an
    analysis without the control.
    """
    rows = [row for row in rows if row["basis"] == "sae"]
    if not rows:
        return
    pairs = sorted({(row["analysis_id"], row["synset_id"]) for row in rows})
    analyses = [analysis for analysis, _ in pairs]
    n_seeds = {
        (row.analysis_id, row.basis): row.n_seeds
        for row in session.execute(
            text(
                "SELECT analysis_id, basis, count(*) AS n_seeds FROM layer_score"
                " WHERE analysis_id = ANY(:analyses) AND basis = ANY(:bases) GROUP BY analysis_id, basis"
            ),
            {"analyses": sorted(set(analyses)), "bases": list(CONTROLS)},
        )
    }
    sums = {
        (row.analysis_id, row.basis, row.synset_id): row.f1
        for row in session.execute(
            text(
                "SELECT r.analysis_id, r.basis, r.synset_id, sum(r.f1) AS f1"
                " FROM unnest(CAST(:nodes AS bigint[]), CAST(:analyses AS bigint[])) AS w(synset_id, analysis_id)"
                " JOIN node_score r ON r.synset_id = w.synset_id AND r.analysis_id = w.analysis_id"
                " WHERE r.is_node_best AND r.basis = ANY(:bases) GROUP BY r.analysis_id, r.basis, r.synset_id"
            ),
            {"nodes": [node for _, node in pairs], "analyses": analyses, "bases": list(CONTROLS)},
        )
    }
    for row in rows:
        for control in CONTROLS:
            seeds = n_seeds.get((row["analysis_id"], control), 0)
            total = sums.get((row["analysis_id"], control, row["synset_id"])) or 0.0
            row[f"f1_{control}"] = total / seeds if seeds else None
