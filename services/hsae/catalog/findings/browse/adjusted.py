"""What controls and chance give at nodes: adjusted F1 of controls, and F1, precision and recall of random firing."""

from hsae.catalog.findings.controls import ADJUSTED_SUM
from hsae.vocabulary.bases import BASELINES


def beside_controls(query: str, *, order: str) -> str:
    """A query whose rows also have what the controls of the same analysis reach at their nodes.

    The added columns are `baseline` (the name of the best one), `baseline_adjusted` and `tree_adjusted` (the best
    latent where the classes are shuffled over the tree): means over seeds, one below 0 counting as 0, as in the
    report. Each row costs a few index searches.

    Args:
        query: selects `analysis_id` and `synset_id`; its own order and limit come first.
        order: the order of its rows, by columns of the alias `v`.
    """
    return f"""
        SELECT v.*, b.basis AS baseline, b.f1_adjusted AS baseline_adjusted, t.f1_adjusted AS tree_adjusted
        FROM ({query}) v
        LEFT JOIN LATERAL ({_best_of(BASELINES)}) b ON true
        LEFT JOIN LATERAL ({_best_of(("shuffled_taxonomy",))}) t ON true
        ORDER BY {order}
    """  # noqa: S608 -- names of columns, ours


def beside_chance(query: str, *, order: str) -> str:
    """A query whose rows also have what chance gives at their nodes.

    The added columns are `f1_chance`, `precision_chance` and `recall_chance`: what is expected of a latent that fires
    as often, on random scored images. NULL where the SAE has no score at the node, or the latent never fires. Each
    row costs an index search.

    Args:
        query: selects `analysis_id`, `synset_id` and `density`; its own order and limit come first.
        order: the order of its rows, by columns of the alias `v`.
    """
    return f"""
        SELECT v.*, 2 * n.share * v.density / nullif(n.share + v.density, 0) AS f1_chance,
               n.share AS precision_chance, v.density AS recall_chance
        FROM ({query}) v
        LEFT JOIN LATERAL (
            SELECT CAST(r.n_images AS double precision) / nullif(coalesce(i.n_score, i.n_images), 0) AS share
            FROM node_score r JOIN analysis_input i ON i.analysis_id = r.analysis_id
            WHERE r.analysis_id = v.analysis_id AND r.synset_id = v.synset_id AND r.is_node_best AND r.basis = 'sae'
            LIMIT 1) n ON true
        ORDER BY {order}
    """  # noqa: S608 -- names of columns, ours


def _best_of(bases: tuple[str, ...]) -> str:
    """SQL of the control, of some, that reaches most at the node of `v`; no row if none has an adjusted F1 there."""
    names = ", ".join(f"'{basis}'" for basis in bases)
    return f"""
            SELECT r.basis, {ADJUSTED_SUM} / nullif((
                       SELECT count(*) FROM layer_score c WHERE c.analysis_id = v.analysis_id AND c.basis = r.basis
                   ), 0) AS f1_adjusted
            FROM node_score r
            WHERE r.analysis_id = v.analysis_id AND r.synset_id = v.synset_id AND r.is_node_best
                  AND r.basis IN ({names})
            GROUP BY r.basis HAVING {ADJUSTED_SUM} IS NOT NULL ORDER BY 2 DESC NULLS LAST, r.basis LIMIT 1"""  # noqa: S608 -- ours
