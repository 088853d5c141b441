"""Studies with their headline, and the layers of one study with intervals and nulls."""

from collections.abc import Sequence

from hsae.catalog.findings.browse.question import Question
from hsae.vocabulary.bases import BASELINES

HEADLINE = "coherence_excess"
"""The number whose slope over the layers is a study's headline."""


def studies_with_headline() -> Question:
    """Every study, the latest first, with the slope over the layers of each of its SAEs; one row per SAE."""
    query = """
        SELECT s.id AS study, s.name, s.submitted_at, c.id AS comparison, i.sae_kind, i.expansion, t.analysis_id,
               t.slope, t.ci_low, t.ci_high, t.n_layers
        FROM study s
        LEFT JOIN LATERAL (
            SELECT c.id FROM study_job l JOIN comparison c ON c.job_id = l.job_id
            WHERE l.study_id = s.id ORDER BY c.id DESC LIMIT 1) c ON true
        LEFT JOIN comparison_trend t ON t.comparison_id = c.id AND t.metric = :metric
        LEFT JOIN analysis_input i ON i.analysis_id = t.analysis_id
        ORDER BY s.submitted_at DESC, s.id DESC, i.sae_kind, i.expansion, t.analysis_id
    """
    return Question(query, {"metric": HEADLINE})


_OF_METRIC = """
        LEFT JOIN layer_interval {0}v ON {0}v.analysis_id = i.analysis_id AND {0}v.basis = 'sae'
             AND {0}v.metric = :{0}
        LEFT JOIN layer_tree_shuffle {0}t ON {0}t.analysis_id = i.analysis_id AND {0}t.basis = 'sae'
             AND {0}t.metric = :{0}
        LEFT JOIN LATERAL (
            SELECT b.basis, avg(b.value) AS value, avg(b.low) AS low, avg(b.high) AS high FROM layer_interval b
            WHERE b.analysis_id = i.analysis_id AND b.metric = :{0} AND b.basis = ANY(:baselines)
            GROUP BY b.basis ORDER BY 2 DESC NULLS LAST, 1 LIMIT 1) {0}b ON true"""
_COLUMNS = """
               {0}v.value AS {0}, {0}v.low AS {0}_low, {0}v.high AS {0}_high, {0}b.basis AS {0}_baseline,
               {0}b.value AS {0}_baseline_value, {0}t.mean AS {0}_tree, {0}t.q975 AS {0}_tree_q975"""
METRICS = {"coherence": "coherence_excess", "inner": "f1_adjusted_inner_mean"}
"""What the pages show of a layer, by the name of its columns."""


def layers_of_study(analyses: Sequence[int]) -> Question:
    """The SAE of every analysis with its headline numbers, their intervals, best baselines and shuffled trees."""
    columns = ",".join(_COLUMNS.format(name) for name in METRICS)
    joined = "".join(_OF_METRIC.format(name) for name in METRICS)
    query = f"""
        SELECT i.analysis_id, i.layer, i.sae_kind, i.expansion, i.n_latents, e.fvu, e.l0, c.dead_share, c.n_nodes,
               c.share_nodes_q,{columns}
        FROM analysis_input i
        JOIN sae e ON e.id = i.sae_id
        LEFT JOIN layer_score c ON c.analysis_id = i.analysis_id AND c.basis = 'sae' AND c.seed = 0{joined}
        WHERE i.analysis_id = ANY(:analyses)
        ORDER BY i.sae_kind, i.expansion, i.sae_config::text, i.layer, i.analysis_id
    """  # noqa: S608 -- names of columns, ours
    return Question(query, {"analyses": list(analyses), "baselines": list(BASELINES), **METRICS})
