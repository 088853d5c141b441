"""The best latent of every node by F1, from the pairs that have an image in common."""

import numpy as np
from jaxtyping import Float64, Int32, Int64


class BestOfNodes:
    """The best latents so far, the lower index on ties; pairs arrive in the order of the latents.

    Attributes:
        f1: F1 of each node's best latent; 0 without one.
        latent: the latent, -1 where none has an F1 above 0.
    """

    def __init__(self, n_nodes: int) -> None:
        """Know no latent yet."""
        self.f1: Float64[np.ndarray, "n_nodes"] = np.zeros(n_nodes)
        self.latent: Int32[np.ndarray, "n_nodes"] = np.full(n_nodes, -1, np.int32)

    def add(
        self,
        latent: Int64[np.ndarray, "n_pairs"],
        node: Int32[np.ndarray, "n_pairs"],
        f1: Float64[np.ndarray, "n_pairs"],
    ) -> None:
        """Take in pairs of latents from here on.

        Args:
            latent: latent of every pair, ascending.
            node: its node.
            f1: its F1; never NaN.
        """
        most = np.zeros(len(self.f1))
        np.maximum.at(most, node, f1)
        leads = np.flatnonzero((f1 == most[node]) & (f1 > self.f1[node]))[::-1]  # the lowest latent is written last
        self.f1[node[leads]], self.latent[node[leads]] = f1[leads], latent[leads]
