"""What a basis would reach with fewer columns: more columns have more chances."""

import numpy as np
from jaxtyping import Float64, Int

from hsae.hierarchy.statistics.hypergeometric import Hypergeometric


def rarefied(n_reaching: Int[np.ndarray, "n_nodes"], n_columns: int, n_drawn: int) -> Float64[np.ndarray, "n_nodes"]:
    """Probability that some of `n_drawn` columns, drawn without replacement, reach a threshold at a node.

    `1 - C(M - g, m) / C(M, m)` for `g` of `M` columns that reach it, of which `m` are drawn: the rarefaction of ecology
    (Hurlbert, 1971). It is the probability that a hypergeometric number is at least 1.

    Args:
        n_reaching: `g` of every node.
        n_columns: `M`.
        n_drawn: `m`, at most `M`.

    Raises:
        ValueError: there are fewer columns than are drawn.
    """
    if not 0 <= n_drawn <= n_columns:
        raise ValueError(f"{n_drawn} of {n_columns} columns cannot be drawn")
    if n_drawn in (0, n_columns):
        return np.where(np.asarray(n_reaching) > 0, float(n_drawn > 0), 0.0)
    distinct, which = np.unique(n_reaching, return_inverse=True)
    share: np.ndarray = (distinct == n_columns).astype(np.float64)
    partial = (distinct > 0) & (distinct < n_columns)
    counts = distinct[partial]
    one, drawn = np.ones_like(counts), np.full_like(counts, n_drawn)
    share[partial] = np.exp(Hypergeometric.of(n_columns).log_tail(one, drawn, counts))
    return share[which]
