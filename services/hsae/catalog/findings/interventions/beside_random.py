"""What edits of a node's latents took away, beside as many random latents."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.findings.interventions.listed import LAYERS, N_LATENTS
from hsae.catalog.queries.conditions import Row


def edits_beside_random(session: Session, study_id: int, readout: str) -> list[Row]:
    """The edits of latents that a study asked for, in the order of the job, by one readout.

    Each row has target (the node's name), layer, layers (all that are edited), sae_kind, dose, n_latents,
    accuracy_inside_before and _after, accuracy_outside_before and _after, specificity with its interval
    (specificity_low, specificity_high), and of the random latents n_draws, random, random_low and random_high: means
    over the draws, NULL without any. The interval of these means is at worst too wide, as the standard error of a mean
    is at most the mean of the standard errors.

    Args:
        session: of the catalog.
        study_id: the study.
        readout: as in the table `intervention`.
    """
    query = f"""
        SELECT y.name AS target, i.layer, {LAYERS} AS layers, i.sae_kind, e.dose, {N_LATENTS} AS n_latents,
               e.accuracy_inside_before, e.accuracy_inside_after, e.accuracy_outside_before, e.accuracy_outside_after,
               e.specificity, e.specificity_low, e.specificity_high, r.*
        FROM study_job l
        JOIN intervention_set s ON s.job_id = l.job_id
        JOIN analysis_input i ON i.analysis_id = s.analysis_id
        JOIN intervention e ON e.intervention_set_id = s.id AND e.arm = 'latents'
        JOIN synset y ON y.id = e.synset_id
        CROSS JOIN LATERAL (
            SELECT count(*) AS n_draws, avg(x.specificity) AS random, avg(x.specificity_low) AS random_low,
                   avg(x.specificity_high) AS random_high
            FROM intervention x
            WHERE x.intervention_set_id = e.intervention_set_id AND x.synset_id = e.synset_id
              AND x.readout = e.readout AND x.dose = e.dose AND x.arm = 'random'
        ) r
        WHERE l.study_id = :study AND e.readout = :readout
        ORDER BY i.layer, s.id, e.number
    """  # noqa: S608 -- expressions of ours
    found = session.execute(text(query), {"study": study_id, "readout": readout}).mappings()
    return [dict(row) for row in found]
