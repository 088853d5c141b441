"""How many latents fire on a row, and how often each latent fires: quantiles of L0 and the histogram of densities."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DENSITY_DECADES = 6
_BINS_PER_DECADE = 2
DENSITY_EDGES = tuple(
    10.0 ** (i / _BINS_PER_DECADE - DENSITY_DECADES) for i in range(DENSITY_DECADES * _BINS_PER_DECADE + 1)
)
"""Edges of the bins of densities, from 1e-6 to 1, two bins to a factor of ten."""


@dataclass(frozen=True, slots=True, eq=False)
class Firing:
    """What fires on some rows.

    Attributes:
        latents_per_row: number of positive latents of each row.
        rows_per_latent: on how many of the rows each latent is positive.
    """

    latents_per_row: Int64[np.ndarray, "n_rows"]
    rows_per_latent: Int64[np.ndarray, "n_latents"]

    def l0_quantiles(self) -> list[float]:
        """The quantiles .05, .25, .5, .75 and .95 over the rows of the number of firing latents, interpolated."""
        return [float(value) for value in np.quantile(self.latents_per_row, QUANTILES)]

    def density_histogram(self) -> list[int]:
        """How many latents have which density, the share of the rows on which a latent fires.

        Returns:
            First the latents that never fire; then, for each two neighbours `a` and `b` of `DENSITY_EDGES`, those of a
            density in [a, b). The first of these bins also has all smaller densities, the last one also density 1.
        """
        densities = self.rows_per_latent / len(self.latents_per_row)
        fires = densities[densities > 0]
        bins = np.clip(np.searchsorted(DENSITY_EDGES, fires, side="right") - 1, 0, len(DENSITY_EDGES) - 2)
        counts = np.bincount(bins, minlength=len(DENSITY_EDGES) - 1)
        return [len(densities) - len(fires), *map(int, counts)]
