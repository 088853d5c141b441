"""Percentile bootstrap of means (Efron 1979; Efron & Tibshirani 1993, chapter 13).

A resample draws n of the n rows with replacement; quantiles of the resampled means bound the interval. All columns of
a call use the same draws, so the difference of two columns is a paired bootstrap.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64

from hsae.errors import UserError

_DRAWS_PER_BLOCK = 2_000_000
_VALUES_PER_BLOCK = 4_000_000


def mean_of(values: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "m"]:
    """Means of the columns, exact for constant columns; NaN without rows."""
    if not len(values):
        return np.full(values.shape[1], np.nan)
    return np.asarray(values[0] + (values - values[0]).sum(axis=0) / len(values))


def resampled_means(
    values: Float64[np.ndarray, "n m"], *, n_resamples: int, seed: int | Sequence[int]
) -> Float64[np.ndarray, "n_resamples m"]:
    """Means of the columns in `n_resamples` resamples of the rows; NaN without rows.

    The draws are those of NumPy's `Generator(PCG64(seed)).integers(0, n, size=(n_resamples, n))`. They depend only on
    the seed and on the numbers of rows and resamples. One thread sums in the order of the rows.

    Args:
        values: one column per quantity.
        n_resamples: number of resamples.
        seed: seed of the generator; calls with equal seeds and numbers of rows are paired.

    Raises:
        UserError: values are NaN or infinite, or `n_resamples` is less than 1.
    """
    if n_resamples < 1:
        raise UserError(f"{n_resamples} resamples give no interval: take 1,000 or more")
    if not np.isfinite(values).all():
        raise UserError("values to be resampled are NaN or infinite: leave out what is undefined")
    n = len(values)
    if n == 0:
        return np.full((n_resamples, values.shape[1]), np.nan)
    rng = np.random.Generator(np.random.PCG64(seed))
    # Relative to the first row, so that a constant column keeps its value to the last bit.
    relative = np.ascontiguousarray(values - values[0])
    means = np.empty((n_resamples, values.shape[1]))
    size = max(1, _DRAWS_PER_BLOCK // n)
    for start in range(0, n_resamples, size):
        n_block = min(size, n_resamples - start)
        drawn = rng.integers(0, n, size=(n_block, n))
        drawn += np.arange(n_block)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=n_block * n).reshape(n_block, n)
        # SciPy's sparse product sums row by row; a BLAS would split the sum by its number of threads.
        means[start : start + n_block] = sp.csr_array(counts.astype(np.float64)) @ relative
    means /= n
    means += values[0]
    return means


def percentile_interval(
    resampled: Float64[np.ndarray, "n_resamples m"], confidence: float
) -> tuple[Float64[np.ndarray, "m"], Float64[np.ndarray, "m"]]:
    """Lower and upper bound of each column: the quantiles (1 -/+ confidence) / 2, interpolated linearly.

    Raises:
        UserError: the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise UserError(f"a confidence of {confidence} cannot be: choose one between 0 and 1, such as 0.95")
    quantiles = ((1 - confidence) / 2, (1 + confidence) / 2)
    bounds = np.empty((2, resampled.shape[1]))
    size = max(1, _VALUES_PER_BLOCK // len(resampled))
    for start in range(0, resampled.shape[1], size):
        bounds[:, start : start + size] = np.quantile(resampled[:, start : start + size], quantiles, axis=0)
    return bounds[0], bounds[1]
