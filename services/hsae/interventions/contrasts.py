"""The latents beside their controls: over nodes, and at equal forgetting."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Float64

_BLOCK = 1 << 22  # signs drawn at once
_EXACT = 14
"""With so many nodes or fewer, all signs are tried."""
_SAME = 1e-12
"""Numbers that are closer are the same: a mean of equal numbers may be greater than they are, by a rounding."""


def sign_flip_p(differences: Sequence[float], n_flips: int, seed: int) -> float:
    """Two-sided p of the mean of paired differences: how rarely random signs give one as far from 0.

    With at most 14 differences all signs are tried, else `n_flips` random ones with the true ones among them. NaN
    without differences; those that are NaN are left out.

    Args:
        differences: one for each node.
        n_flips: random draws of the signs.
        seed: of the draws.
    """
    values = np.array([value for value in differences if not np.isnan(value)])
    if not len(values):
        return float("nan")
    found = abs(values.sum())
    tolerance = _SAME * max(1.0, np.abs(values).sum())  # differences that are roundings of 0 have no sign
    if len(values) <= _EXACT:
        signs = np.array(list(product((1.0, -1.0), repeat=len(values))))
        return float((np.abs(signs @ values) >= found - tolerance).mean())
    rng = np.random.Generator(np.random.PCG64(seed))
    n_far, block = 0, max(1, _BLOCK // len(values))
    for start in range(0, n_flips, block):
        drawn = rng.integers(0, 2, (min(block, n_flips - start), len(values))) * 2.0 - 1.0
        n_far += int((np.abs(drawn @ values) >= found - tolerance).sum())
    return float((1 + n_far) / (1 + n_flips))


def cost_at(forgetting: Float64[np.ndarray, "n_doses"], cost: Float64[np.ndarray, "n_doses"], wanted: float) -> float:
    """The cost at which doses reach a forgetting, interpolated linearly between neighbours in forgetting (ours).

    Without an edit both are 0. NaN where no dose reaches so much, or nothing is to be forgotten.

    Args:
        forgetting: of every dose.
        cost: of every dose, the drop of the accuracy outside.
        wanted: the forgetting.
    """
    known = ~(np.isnan(forgetting) | np.isnan(cost))
    x, y = np.append(forgetting[known], 0.0), np.append(cost[known], 0.0)
    same = x[np.abs(x - wanted) < _SAME]
    wanted = float(same[0]) if len(same) else wanted
    if not 0 < wanted <= x.max():
        return float("nan")
    order = np.lexsort((y, x))
    return float(np.interp(wanted, x[order], y[order]))
