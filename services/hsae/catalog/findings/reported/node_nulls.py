"""The adjusted F1 of every node beside what controls reach at the same node, and the best latents by analysis."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.findings.browse.adjusted import beside_chance, beside_controls
from hsae.catalog.findings.controls import ADJUSTED_SUM
from hsae.catalog.findings.interventions.used import with_label_effects
from hsae.catalog.findings.text.beside import with_names
from hsae.catalog.queries.conditions import SUREST_FIRST, Row
from hsae.vocabulary.bases import BASELINES


def node_null_rows(session: Session, analysis_ids: Collection[int]) -> list[Row]:
    """The SAE's best latent of every node, by analysis and node, in adjusted F1 beside its controls at the same node.

    Each row has analysis_id, synset_id, latent, f1, f1_adjusted, q_node, n_images, n_fire, is_distinct; `baseline`, the
    best baseline at the node, and `f1_adjusted_baseline`; `f1_adjusted_shuffled`, what the SAE's latents reach with the
    classes shuffled over the tree. Values of controls are means over their seeds, one below 0 counting as 0; None where
    the control was not scored or has no adjusted F1 there.
    """
    query = f"""
        WITH scored AS (
            SELECT analysis_id, basis, count(*) AS n FROM layer_score
            WHERE analysis_id = ANY(:analyses) GROUP BY analysis_id, basis
        ), control AS (
            SELECT r.analysis_id, r.synset_id, r.basis,
                   {ADJUSTED_SUM} / max(s.n) AS f1_adjusted
            FROM node_score r JOIN scored s ON s.analysis_id = r.analysis_id AND s.basis = r.basis
            WHERE r.is_node_best AND r.analysis_id = ANY(:analyses)
              AND (r.basis = ANY(:baselines) OR r.basis = 'shuffled_taxonomy')
            GROUP BY r.analysis_id, r.synset_id, r.basis
        ), baseline AS (
            SELECT DISTINCT ON (analysis_id, synset_id) analysis_id, synset_id, basis, f1_adjusted
            FROM control WHERE basis = ANY(:baselines) AND f1_adjusted IS NOT NULL
            ORDER BY analysis_id, synset_id, f1_adjusted DESC, basis
        )
        SELECT r.analysis_id, r.synset_id, r.latent, r.f1, r.f1_adjusted, r.q_node, r.n_images, r.n_fire, r.is_distinct,
               b.basis AS baseline, b.f1_adjusted AS f1_adjusted_baseline, c.f1_adjusted AS f1_adjusted_shuffled
        FROM node_score r
        LEFT JOIN baseline b ON b.analysis_id = r.analysis_id AND b.synset_id = r.synset_id
        LEFT JOIN control c ON c.analysis_id = r.analysis_id AND c.synset_id = r.synset_id
                           AND c.basis = 'shuffled_taxonomy'
        WHERE r.is_node_best AND r.basis = 'sae' AND r.analysis_id = ANY(:analyses)
        ORDER BY r.analysis_id, r.synset_id
    """  # noqa: S608 -- an expression of ours
    values = {"analyses": list(analysis_ids), "baselines": list(BASELINES)}
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def best_labelled_latents(session: Session, analysis_ids: Collection[int], *, n_each: int) -> list[Row]:
    """The SAE's latents with the surest labels: `n_each` of every analysis at most, each with a label of its own.

    The order within an analysis, the column `place`, is `SUREST_FIRST`. Of latents with the same label the first
    stands for all (`n_with_label`). Each row has the latent's row of latent_label, its `definition`, `density`,
    `max_activation` and `top_images`, the adjusted F1 that controls reach at its label (`beside_controls`), what chance
    gives there (`beside_chance`), what the label loses without it (`with_label_effects`), and what it is called by text
    (`with_names`).
    """
    query = f"""
        WITH labelled AS (
            SELECT l.analysis_id, l.latent, l.n_fire, row_number() OVER same AS place_of_label,
                   count(*) OVER (PARTITION BY l.analysis_id, l.label_synset_id) AS n_with_label,
                   l.label_q, l.label_f1_adjusted, l.label_f1
            FROM latent l
            WHERE l.basis = 'sae' AND l.analysis_id = ANY(:analyses) AND l.label_f1 > 0
            WINDOW same AS (PARTITION BY l.analysis_id, l.label_synset_id
                            ORDER BY {SUREST_FIRST})
        ), placed AS (
            SELECT *, row_number() OVER (PARTITION BY analysis_id ORDER BY {SUREST_FIRST}) AS place
            FROM labelled WHERE place_of_label = 1
        )
        SELECT v.*, y.definition, t.density, t.max_activation, t.top_images, p.n_with_label, p.place
        FROM placed p
        JOIN latent t ON t.analysis_id = p.analysis_id AND t.latent = p.latent AND t.basis = 'sae'
        JOIN latent_label v ON v.analysis_id = p.analysis_id AND v.latent = p.latent AND v.basis = 'sae'
        JOIN synset y ON y.id = v.synset_id
        WHERE p.place <= :n_each ORDER BY p.place, v.layer, v.analysis_id
    """  # noqa: S608 -- names of columns, ours
    order = "v.place, v.layer, v.analysis_id"
    for beside in (beside_controls, beside_chance, with_label_effects, with_names):
        query = beside(query, order=order)
    values = {"analyses": list(analysis_ids), "n_each": n_each}
    return [dict(row) for row in session.execute(text(query), values).mappings()]
