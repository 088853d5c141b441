"""The scores of controls beside those of the SAE's latents."""

CONTROLS = ("neuron", "shuffled_taxonomy")
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
