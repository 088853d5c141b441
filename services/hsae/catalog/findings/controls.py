"""The scores of controls beside those of the SAE's latents."""

CONTROLS = ("neuron", "shuffled_taxonomy")
ADJUSTED_SUM = "sum(greatest(0, r.f1_adjusted)) FILTER (WHERE r.f1_adjusted IS NOT NULL)"
"""SQL of what a control reaches at a node: the adjusted F1 of its best columns, rows `r` of node_score, over its seeds.

To be divided by the number of its seeds; a seed below 0, or one in which nothing fires there, counts as 0. Null where
no seed has an adjusted F1. Every page, report and table uses this one expression, so that their nulls agree.
"""
_COLUMNS = ", ".join(["b.f1 AS f1_baseline", "b.basis AS baseline", *(f"c.f1_{control}" for control in CONTROLS)])


def with_controls(query: str, *, basis: str | None, order: str) -> str:
    """A query whose rows also have the scores that the controls reach at the same node of the same analysis.

    The added columns `f1_baseline` (with its name, `baseline`), `f1_neuron` and `f1_shuffled_taxonomy` come from the
    views node_baseline and node_control. They are joined last, to the rows that `query` returns: each row costs a few
    index searches.

    Args:
        query: selects `analysis_id`, `synset_id` and `basis`, with its own order and limit.
        basis: the basis that `query` selects, None for all. Rows of a control get nothing.
        order: the order of the rows of `query`, by columns of the alias `v`.
    """
    if basis not in (None, "sae"):
        return query
    return f"""
        SELECT v.*, {_COLUMNS}
        FROM ({query}) v
        LEFT JOIN node_control c ON c.analysis_id = v.analysis_id AND c.synset_id = v.synset_id AND v.basis = 'sae'
        LEFT JOIN node_baseline b ON b.analysis_id = v.analysis_id AND b.synset_id = v.synset_id AND v.basis = 'sae'
        ORDER BY {order}
    """  # noqa: S608 -- names of columns, ours
