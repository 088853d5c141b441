"""Queries about relevancy maps."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import SUREST_FIRST, Row, of_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter


def map_rows(
    session: Session, analysis_id: int, latents: Sequence[int] | None = None, *, methods: Sequence[str] | None = None
) -> list[Row]:
    """The maps of latents of an analysis: by latent, method and rank; empty where none were made.

    Where several sets have the same map, the latest set's counts.

    Args:
        session: a database session.
        analysis_id: the analysis.
        latents: these latents; None: all that have maps.
        methods: these methods; None: all.

    Returns:
        Columns of latent_map; `analysis_id`; `maps_key` and `maps_sha256`, which name the object (`map_index` is the
        place in its tensor `method`); `n_patch_rows` and `n_patch_cols`; the synset of the latent's `label` with its
        `label_f1_adjusted`; and what is needed to find the image and the part of it that the model saw: `root` (folder
        or URI of the data set) and `preprocessing`.
    """
    query = """
        SELECT DISTINCT ON (v.latent, v.method, v.rank)
               s.analysis_id, v.*, s.key AS maps_key, s.maps_sha256, s.n_patch_rows, s.n_patch_cols,
               y.name AS label, l.label_f1_adjusted, d.root, m.preprocessing
        FROM latent_map v
        JOIN map_set s ON s.id = v.map_set_id
        JOIN analysis_input i ON i.analysis_id = s.analysis_id
        JOIN dataset d ON d.id = i.dataset_id
        JOIN model m ON m.id = i.model_id
        LEFT JOIN latent l ON l.analysis_id = i.analysis_id AND l.basis = 'sae' AND l.latent = v.latent
        LEFT JOIN synset y ON y.id = l.label_synset_id
        WHERE s.analysis_id = :analysis
              AND (CAST(:latents AS integer[]) IS NULL OR v.latent = ANY(:latents))
              AND (CAST(:methods AS text[]) IS NULL OR v.method = ANY(:methods))
        ORDER BY v.latent, v.method, v.rank, s.id DESC
    """
    values = {
        "analysis": analysis_id,
        "latents": None if latents is None else list(latents),
        "methods": None if methods is None else list(methods),
    }
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def latents_to_map(session: Session, analysis_id: int, limit: int) -> list[Row]:
    """The latents of an analysis that people look at first, with their strongest images.

    First comes the surest latent of every label, in the order of the cards of a report, then the others. Latents
    without a label, such as those that never fire, do not count.

    Returns:
        `latent` and `top_images`.
    """
    query = f"""
        SELECT v.latent, v.top_images FROM (
            SELECT l.*, row_number() OVER (PARTITION BY label_synset_id ORDER BY {SUREST_FIRST}) AS place_of_label
            FROM latent l
            WHERE l.analysis_id = :analysis AND l.basis = 'sae' AND NOT l.is_dead AND l.label_f1 > 0
        ) v
        ORDER BY v.place_of_label > 1, {SUREST_FIRST}
        LIMIT :limit
    """  # noqa: S608 -- names of columns, ours
    found = session.execute(text(query), {"analysis": analysis_id, "limit": limit})
    return [dict(row) for row in found.mappings()]


def mapped_analyses(session: Session, wanted: AnalysisFilter) -> list[Row]:
    """The analyses that have maps, by layer: `analysis_id` and `layer`."""
    values: Row = {}
    query = f"""
        SELECT v.analysis_id, v.layer FROM analysis_input v
        WHERE EXISTS (SELECT FROM map_set s WHERE s.analysis_id = v.analysis_id){of_analyses(wanted, values)}
        ORDER BY v.layer, v.analysis_id
    """  # noqa: S608 -- conditions name our columns, values are bound
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def latent_facts(session: Session, analysis_ids: Sequence[int], latents: Sequence[int]) -> list[Row]:
    """Which of the latents exist in these analyses: `analysis_id`, `latent` and `is_dead`."""
    query = """
        SELECT l.analysis_id, l.latent, l.is_dead FROM latent l
        WHERE l.analysis_id = ANY(:analyses) AND l.basis = 'sae' AND l.latent = ANY(:latents) ORDER BY 1, 2
    """
    found = session.execute(text(query), {"analyses": list(analysis_ids), "latents": list(latents)})
    return [dict(row) for row in found.mappings()]
