"""Queries about the scores of layers, latents and nodes; each returns plain rows."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.findings.controls import ADJUSTED_SUM, with_controls
from hsae.catalog.findings.interventions.used import of_effects, with_label_effects
from hsae.catalog.findings.text.beside import with_names
from hsae.catalog.queries.conditions import Row, of_analyses, of_scores
from hsae.catalog.queries.score_filter import AnalysisFilter, LatentFilter
from hsae.vocabulary.bases import BASES

_HAS_MAPS = """
    AND v.basis = 'sae' AND EXISTS (
        SELECT FROM latent_map m JOIN map_set s ON s.id = m.map_set_id
        WHERE s.analysis_id = v.analysis_id AND m.latent = v.latent)
"""


def layer_rows(session: Session, wanted: AnalysisFilter) -> list[Row]:
    """Rows of layer_progress with those of layer_coherence, by SAE kind, layer and basis (the SAE first).

    They have what the training measured beside them, and the numbers of columns: of the basis (`n_latents`), and those
    that `share_nodes_rarefied` is for (`n_rarefied`).
    """
    values: Row = {"bases": list(BASES)}
    query = f"""
        SELECT v.*, e.l0 AS holdout_l0, e.holdout_dead_share, e.train_fvu, e.train_l0, e.train_dead_share,
               h.coherence, h.coherence_null, h.coherence_excess_weighted, round(h.n_coherent)::integer AS n_coherent,
               h.purity, h.purity_null, c.n_latents, c.n_rarefied
        FROM layer_progress v JOIN analysis a ON a.id = v.analysis_id JOIN sae e ON e.id = a.sae_id
        JOIN layer_coherence h ON h.analysis_id = v.analysis_id AND h.basis = v.basis
        CROSS JOIN LATERAL (
            SELECT max(s.n_latents) AS n_latents, max(s.n_rarefied) AS n_rarefied FROM layer_score s
            WHERE s.analysis_id = v.analysis_id AND s.basis = v.basis) c
        WHERE true{of_analyses(wanted, values)}
        ORDER BY v.model, v.dataset, v.tokens, v.sae_kind, v.layer, v.analysis_id,
                 array_position(CAST(:bases AS text[]), v.basis)
    """  # noqa: S608 -- conditions name our columns, values are bound
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def latent_rows(session: Session, wanted: LatentFilter) -> list[Row]:
    """Rows of latent_label by falling F1; a latent's node is its label.

    If a least coherence excess is wanted, they come by it instead. Latents of the SAE also have the F1 that their
    controls reach at the label (`with_controls`), what their label loses without them (`with_label_effects`), and what
    they are called by text (`with_names`).
    """
    values: Row = {"limit": wanted.limit}
    where = of_scores(wanted, values, all_rows=wanted.max_q is not None) + _at_least(wanted.min_f1, values)
    if wanted.max_q is not None:
        where += " AND v.q <= :max_q"
        values["max_q"] = wanted.max_q
    if wanted.min_stability is not None:
        where += " AND v.seed_stability >= :min_stability"
        values["min_stability"] = wanted.min_stability
    if wanted.min_f1_adjusted is not None:
        where += " AND v.f1_adjusted >= :min_f1_adjusted"
        values["min_f1_adjusted"] = wanted.min_f1_adjusted
    if wanted.mapped:
        where += _HAS_MAPS
    where += of_effects("v", values, only_used=wanted.used, min_effect=wanted.min_effect)
    query = f"SELECT v.* FROM latent_label v WHERE true{where}"  # noqa: S608 -- as above
    order = "v.f1 DESC, v.analysis_id, v.latent"
    if wanted.min_coherence is not None:
        query += " AND v.coherence_excess >= :min_coherence"
        values["min_coherence"] = wanted.min_coherence
        order = "v.coherence_excess DESC, v.analysis_id, v.latent"
    query = with_controls(f"{query} ORDER BY {order} LIMIT :limit", basis=wanted.basis, order=order)
    query = with_names(with_label_effects(query, order=order), order=order)
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def node_rows(session: Session, wanted: LatentFilter) -> list[Row]:
    """Rows of node_best_latent by falling F1.

    Rows of the SAE also have the F1 that its controls reach at the node (`with_controls`).
    """
    values: Row = {"limit": wanted.limit}
    where = of_scores(wanted, values) + _at_least(wanted.min_f1, values)
    if wanted.max_q is not None:
        where += " AND v.q_node <= :max_q"
        values["max_q"] = wanted.max_q
    order = "v.f1 DESC, v.analysis_id, v.synset"
    query = f"SELECT v.* FROM node_best_latent v WHERE true{where} ORDER BY {order} LIMIT :limit"  # noqa: S608 -- as above
    query = with_controls(query, basis=wanted.basis, order=order)
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def latent_details(session: Session, analysis_id: int, latents: Sequence[int]) -> dict[int, Row]:
    """Rows of latent_label of an analysis' SAE, by latent, with `top_images`, `max_activation` and `definition`.

    `f1_adjusted_shuffled` is the adjusted F1 that the best latent reaches at the label under shuffled taxonomies: the
    mean over their seeds, below 0 counting as 0; None where they were not scored or have no adjusted F1. Names by text
    are beside them (`with_names`). Latents that never fire are missing.
    """
    query = f"""
        SELECT v.*, l.top_images, l.max_activation, l.density, y.definition, (
                   SELECT {ADJUSTED_SUM} FROM node_score r
                   WHERE r.analysis_id = v.analysis_id AND r.synset_id = v.synset_id
                     AND r.basis = 'shuffled_taxonomy' AND r.is_node_best
               ) / (
                   SELECT nullif(count(*), 0) FROM layer_score c
                   WHERE c.analysis_id = v.analysis_id AND c.basis = 'shuffled_taxonomy'
               ) AS f1_adjusted_shuffled
        FROM latent_label v
        JOIN latent l ON l.analysis_id = v.analysis_id AND l.basis = v.basis AND l.latent = v.latent
        LEFT JOIN synset y ON y.id = v.synset_id
        WHERE v.analysis_id = :analysis AND v.basis = 'sae' AND v.latent = ANY(:latents)
    """  # noqa: S608 -- an expression of ours
    query = with_names(query, order="v.latent")
    values = {"analysis": analysis_id, "latents": list(latents)}
    return {row["latent"]: dict(row) for row in session.execute(text(query), values).mappings()}


def _at_least(min_f1: float | None, values: Row) -> str:
    if min_f1 is None:
        return ""
    values["min_f1"] = min_f1
    return " AND v.f1 >= :min_f1"
