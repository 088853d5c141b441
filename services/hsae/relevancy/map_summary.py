"""A map in a few numbers, and in the form in which it is stored."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float32

TOP_SHARE = 0.1
"""The share of the patches whose part of the sum is the concentration."""


@dataclass(frozen=True, slots=True, eq=False)
class MapSummary:
    """One map.

    Attributes:
        peak: its greatest value.
        peak_row: row of the first patch with that value.
        peak_col: column of this patch.
        concentration: the share of the sum of its positive part that the greatest tenth of the patches has.
        scaled: the positive part divided by the peak.
    """

    peak: float
    peak_row: int
    peak_col: int
    concentration: float
    scaled: Float16[np.ndarray, "n_patch_rows n_patch_cols"]


def summarise(values: Float32[np.ndarray, "n_patch_rows n_patch_cols"]) -> MapSummary | None:
    """The summary of a map; None where it is undefined: a value is not finite, or none is positive."""
    if not np.isfinite(values).all() or not values.max() > 0:
        return None
    peak = float(values.max())
    row, col = np.unravel_index(int(values.argmax()), values.shape)
    positive = np.maximum(values, 0).astype(np.float64)
    ordered = np.sort(positive, axis=None)[::-1]
    n_top = math.ceil(TOP_SHARE * ordered.size)
    concentration = float(ordered[:n_top].sum() / ordered.sum())
    return MapSummary(peak, int(row), int(col), concentration, (positive / peak).astype(np.float16))
