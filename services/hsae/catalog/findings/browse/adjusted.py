"""What the controls reach at nodes, adjusted for the size of the node like the SAE's own F1."""

# Undefined at nodes without scored images.
_CHANCE = "2.0 * nullif(v.n_images, 0) / (v.n_images + v.n_scored)"
BASELINES = ("exemplar", "kmeans", "pca", "random", "neuron", "untrained")


def adjusted(f1: str) -> str:
    """SQL of an F1 less that of a column which always fires, over what is left; see `PairSums.f1_adjusted`.

    Args:
        f1: a column; `v` has the node's scored images, `n_images`, and those of the analysis, `n_scored`.
    """
    return f"({f1} - {_CHANCE}) / nullif(1 - {_CHANCE}, 0)"


def beside_controls(query: str, *, order: str) -> str:
    """A query whose rows also have what the controls of the same analysis reach at their nodes.

    The added columns are `baseline` (the name of the best one), `baseline_adjusted` and `tree_adjusted` (the best
    latent where the classes are shuffled over the tree, mean over seeds). Each row costs a few index searches.

    Args:
        query: selects `analysis_id`, `synset_id`, `n_images` and `n_scored`; its own order and limit come first.
        order: the order of its rows, by columns of the alias `v`.
    """
    return f"""
        SELECT v.*, b.basis AS baseline, {adjusted("b.f1")} AS baseline_adjusted,
               {adjusted("c.f1_shuffled_taxonomy")} AS tree_adjusted
        FROM ({query}) v
        LEFT JOIN node_control c ON c.analysis_id = v.analysis_id AND c.synset_id = v.synset_id
        LEFT JOIN node_baseline b ON b.analysis_id = v.analysis_id AND b.synset_id = v.synset_id
        ORDER BY {order}
    """  # noqa: S608 -- names of columns, ours
