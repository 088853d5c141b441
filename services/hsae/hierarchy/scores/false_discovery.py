"""False discovery rate over all tests of an analysis (Benjamini and Hochberg, 1995)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from hsae.hierarchy.kernels.device import searchsorted, sort_values


@dataclass(frozen=True, slots=True, eq=False)
class FalseDiscovery:
    """The q-value of every p-value of one family of tests.

    `q(p)` is the minimum of `m p' / rank(p')` over all tests with `p' >= p`: the expected share of false discoveries if
    all tests up to `p` are called discoveries.
    """

    p: Float64[Tensor, " n_tests"]
    q: Float64[Tensor, " n_tests+1"]
    """The last entry is the q-value of a NaN p-value: NaN."""

    @classmethod
    def of(cls, p: Float64[Tensor, " n_tests"]) -> "FalseDiscovery":
        """Build from all p-values of the family (no NaN), on their device; `p` is sorted in place and kept."""
        p, n_tests = sort_values(p), len(p)
        q = torch.full((n_tests + 1,), torch.nan, dtype=torch.float64, device=p.device)
        if n_tests > 0:
            share = p / torch.arange(1, n_tests + 1, dtype=torch.float64, device=p.device) * n_tests
            q[:-1] = share.flip(0).cummin(0).values.flip(0).clamp_(max=1.0)
        return cls(p, q)

    def q_of(self, p: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
        """q-values of p-values of the family, on its device; NaN stays NaN."""
        return self.q[searchsorted(self.p, p.flatten())].view(p.shape)

    def q_values(self, p: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """As `q_of`, for arrays in CPU memory."""
        return self.q_of(torch.from_numpy(p).to(self.p.device)).cpu().numpy()
