"""What controls reach where the SAE's latents have their scores."""

CONTROLS = ("neuron", "shuffled_taxonomy")
_COLUMNS = ", ".join(f"c.f1_{control}" for control in CONTROLS)


def with_controls(query: str, *, basis: str | None, order: str) -> str:
    """A query whose rows have beside their scores what the controls reach at the same node of the same analysis.

    The view node_control has the columns that are added, `f1_neuron` and `f1_shuffled_taxonomy`. It is asked last, for
    the rows that `query` leaves: each row is two searches of an index.

    Args:
        query: Selects `analysis_id`, `synset_id` and `basis`, with its own order and limit.
        basis: The basis that `query` selects, None for all. Of a control nothing is added.
        order: The order of the rows of `query`, by columns of the alias `v`.
    """
    if basis not in (None, "sae"):
        return query
    return f"""
        SELECT v.*, {_COLUMNS}
        FROM ({query}) v
        LEFT JOIN node_control c ON c.analysis_id = v.analysis_id AND c.synset_id = v.synset_id AND v.basis = 'sae'
        ORDER BY {order}
    """  # noqa: S608 -- names of columns, ours
