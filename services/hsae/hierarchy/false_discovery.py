"""False discovery rate over all tests of an analysis (Benjamini and Hochberg, 1995)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True, slots=True, eq=False)
class FalseDiscovery:
    """The q-value of every p-value of one family of tests.

    `q(p)` is the least `m p' / rank(p')` over all tests with `p' >= p`, the share of false discoveries to
    expect when everything up to `p` is called a discovery.
    """

    p: Float64[np.ndarray, "n_tests"]
    q: Float64[np.ndarray, "n_tests"]

    @classmethod
    def of(cls, p: Float64[np.ndarray, "n_tests"]) -> "FalseDiscovery":
        """Build from all defined p-values of the family (no NaN); `p` is sorted in place and kept."""
        p.sort()
        q = np.arange(1, len(p) + 1, dtype=np.float64)
        np.divide(p, q, out=q)
        q *= len(p)
        np.minimum.accumulate(q[::-1], out=q[::-1])
        return cls(p, np.minimum(q, 1.0, out=q))

    def q_values(self, p: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """q-values of p-values out of the family; NaN stays NaN."""
        q = np.full(p.shape, np.nan)
        defined = np.flatnonzero(~np.isnan(p))
        wanted = p.ravel()[defined]
        order = np.argsort(wanted)  # looked up in order, neighbours share the processor's cache
        q.ravel()[defined[order]] = self.q[np.searchsorted(self.p, wanted[order])]
        return q
