"""Edits that are drawn over the taxonomy: of every target the one that tells most, and what it took from every node."""

from collections.abc import Collection, Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.findings.interventions.listed import LATEST_SETS, LAYERS, N_LATENTS
from hsae.catalog.findings.interventions.used import READOUTS
from hsae.catalog.queries.conditions import Row


def pictured_edits(
    session: Session, analysis_ids: Collection[int], *, targets: Sequence[int] | None = None, limit: int
) -> list[Row]:
    """Of every target the edit of latents with the greatest specificity, those of the greatest first.

    Only the first dose counts, and one readout: the probe where it was read. Specificity is that of log-odds where
    there are some, else of accuracy. Each row has intervention_set_id, number, readout, analysis_id, layer, layers (all
    that are edited), sae_kind, dataset_id, synset_id (the target), target (its name), dose, n_latents, `unit` (log_odds
    or accuracy) and `specificity` in it, and the edit (scale, clamp or add). Beside it stand its 95 % interval (`low`,
    `high`), and at the same dose that of random latents (`random`, the mean of `n_random` draws, `random_least` and
    `random_greatest`) and of LEACE (`leace`); None where there is none. `n_edits` is of how many edits of this target
    it is the greatest; sets of an earlier format whose request was run again do not count, and of equals the latest set
    is taken.

    Args:
        session: of the catalog.
        analysis_ids: of these analyses.
        targets: ids of synsets; None: all.
        limit: at most so many.
    """
    beside = "CASE WHEN v.unit = 'log_odds' THEN c.specificity_log_odds ELSE c.specificity END"
    query = f"""
        SELECT v.*, c.* FROM (
            SELECT DISTINCT ON (e.synset_id) e.intervention_set_id, e.number, e.readout, i.analysis_id, i.layer,
                   i.sae_kind, i.dataset_id, i.dataset, e.synset_id, y.name AS target, e.dose,
                   {LAYERS} AS layers, {N_LATENTS} AS n_latents, s.config ->> 'edit' AS edit,
                   CASE WHEN e.specificity_log_odds IS NULL THEN 'accuracy' ELSE 'log_odds' END AS unit,
                   coalesce(e.specificity_log_odds, e.specificity) AS specificity,
                   CASE WHEN e.specificity_log_odds IS NULL THEN e.specificity_low
                        ELSE e.specificity_log_odds_low END AS low,
                   CASE WHEN e.specificity_log_odds IS NULL THEN e.specificity_high
                        ELSE e.specificity_log_odds_high END AS high,
                   count(coalesce(e.specificity_log_odds, e.specificity)) OVER same AS n_edits
            FROM intervention e
            JOIN {LATEST_SETS} s ON s.id = e.intervention_set_id
            JOIN analysis_input i ON i.analysis_id = s.analysis_id
            JOIN synset y ON y.id = e.synset_id
            WHERE e.arm = 'latents' AND s.analysis_id = ANY(:analyses)
              AND (CAST(:targets AS bigint[]) IS NULL OR e.synset_id = ANY(:targets))
              AND e.number = (
                  SELECT min(f.number) FROM intervention f
                  WHERE f.intervention_set_id = e.intervention_set_id AND f.synset_id = e.synset_id
                    AND f.arm = 'latents')
            WINDOW same AS (PARTITION BY e.synset_id, e.readout)
            ORDER BY e.synset_id, array_position({READOUTS}, e.readout),
                     coalesce(e.specificity_log_odds, e.specificity) DESC NULLS LAST, e.intervention_set_id DESC
        ) v
        CROSS JOIN LATERAL (
            SELECT avg({beside}) FILTER (WHERE c.arm = 'random') AS random,
                   min({beside}) FILTER (WHERE c.arm = 'random') AS random_least,
                   max({beside}) FILTER (WHERE c.arm = 'random') AS random_greatest,
                   count({beside}) FILTER (WHERE c.arm = 'random') AS n_random,
                   max({beside}) FILTER (WHERE c.arm = 'leace') AS leace
            FROM intervention c
            WHERE c.intervention_set_id = v.intervention_set_id AND c.synset_id = v.synset_id
              AND c.readout = v.readout AND c.dose = v.dose) c
        ORDER BY v.specificity DESC NULLS LAST, v.target LIMIT :limit
    """  # noqa: S608 -- names of ours
    values = {
        "analyses": list(analysis_ids), "targets": None if targets is None else list(targets), "limit": limit,
    }  # fmt: skip
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def taken_away(session: Session, edit: Row) -> dict[int, Row]:
    """By node what an edit of `pictured_edits` took away: `drop` in the edit's unit, before minus after; `n_images`.

    Nodes whose drop is not defined, as that of the root in log-odds, are missing.
    """
    column = "log_odds" if edit["unit"] == "log_odds" else "accuracy"
    query = f"""
        SELECT e.synset_id, e.{column}_before - e.{column}_after AS drop, e.n_images, e.distance
        FROM intervention_effect e
        WHERE e.intervention_set_id = :set AND e.number = :number AND e.readout = :readout
          AND e.{column}_before IS NOT NULL AND e.{column}_after IS NOT NULL
    """  # noqa: S608 -- one of two names
    values = {"set": edit["intervention_set_id"], "number": edit["number"], "readout": edit["readout"]}
    return {row["synset_id"]: dict(row) for row in session.execute(text(query), values).mappings()}
