"""What the controls reach at nodes, adjusted for the size of the node like the SAE's own F1."""

from hsae.catalog.findings.controls import ADJUSTED_SUM, BASELINES


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
