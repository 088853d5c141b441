"""The upper tail of the hypergeometric distribution, exact and on log scale: the test of a latent at a node.

Of `N` images, `n_v` lie under the node and the latent fires on `N_j`. If it fired on images without regard to the node,
the number of images under the node on which it fires would be hypergeometric (Fisher's exact test, one-sided).
Numbers of images stay below 2**26, so that products of two of them are exact in float64.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int, Int64
from scipy.special import xlog1py, xlogy

_SMALL = 16
"""From here on Stirling's series has float64's precision."""
_STOP = 1e-13
"""A tail ends where all that follows is below this share of its sum."""
_STEPS = 4
"""Terms that are added before the sums that are complete are taken out."""
_BLOCK_PAIRS = 1 << 13
"""Few enough that their terms fit the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Hypergeometric:
    """Tails for one number of images.

    `log n! = n log n - n + remainder[n]`. The remainders are small, while `log n!` of a million images has an error of
    1e-9. The parts `n log n` of a probability are summed as deviations from the expected counts, as Loader does for
    the binomial ("Fast and accurate computation of binomial probabilities", 2000), so that nothing large cancels.

    Attributes:
        n_images: `N`, at least 1.
        remainder: for n = 0 to N.
    """

    n_images: int
    remainder: Float64[np.ndarray, "n_images+1"]

    @classmethod
    @lru_cache(maxsize=2)
    def of(cls, n_images: int) -> "Hypergeometric":
        """Make the table of remainders, or take that of an earlier call."""
        n = np.arange(_SMALL, max(n_images + 1, _SMALL), dtype=np.float64)
        series = (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / n**2) / n**2) / n**2) / n**2) / n
        small = [0.0, *(math.log(math.factorial(k)) - k * math.log(k) + k for k in range(1, _SMALL))]
        remainder = np.concatenate((small, 0.5 * np.log(2.0 * math.pi * n) + series))
        return cls(n_images, remainder[: n_images + 1])

    def log_factorials(self) -> Float64[np.ndarray, "n_images+1"]:
        """`log n!` for n = 0 to N, with an error of up to 1e-8 for a million images."""
        n = np.arange(self.n_images + 1, dtype=np.float64)
        factorials: np.ndarray = self.remainder + xlogy(n, n) - n
        return factorials

    def log_term(
        self,
        n_both: Int64[np.ndarray, "n_pairs"],
        n_fire: Int64[np.ndarray, "n_pairs"],
        n_node: Int64[np.ndarray, "n_pairs"],
    ) -> Float64[np.ndarray, "n_pairs"]:
        """`log P(X = n_both)` for possible values of `n_both`, with `0 < n_fire < N` and `0 < n_node < N`."""
        n = self.n_images
        rest, silent = n - n_node, n - n_fire
        log_p: np.ndarray = (
            self.remainder[n_node] + self.remainder[rest] + self.remainder[n_fire] + self.remainder[silent]
        )
        log_p -= self.remainder[n]
        deviation = (n_both * n - n_fire * n_node) / n
        for count, row, column, sign in (
            (n_both, n_fire, n_node, 1.0),
            (n_node - n_both, silent, n_node, -1.0),
            (n_fire - n_both, n_fire, rest, -1.0),
            (rest - n_fire + n_both, silent, rest, 1.0),
        ):
            log_p -= self.remainder[count]
            expected = row * column / n
            relative = np.where(count > 0, sign * deviation / expected, -1.0)  # -1 up to rounding where the count is 0
            # Of count log(count / expected) = expected (1 + x) log(1 + x); the parts x add up to 0 over the counts.
            log_p -= expected * (xlog1py(1.0 + relative, relative) - relative)
        return log_p

    def log_tail(
        self,
        n_both: Int[np.ndarray, "n_pairs"],
        n_fire: Int[np.ndarray, "n_pairs"],
        n_node: Int[np.ndarray, "n_pairs"],
    ) -> Float64[np.ndarray, "n_pairs"]:
        """`log P(X >= n_both)`, relative error of the probability below 1e-10 down to 1e-300.

        Far below, it is the error of the logarithm that stays below 1e-12 of it.

        Args:
            n_both: images under the node on which the latent fires; possible values.
            n_fire: images on which the latent fires.
            n_node: images under the node.

        Returns:
            NaN where there is nothing to test: none or all of the images are under the node, or the latent fires on
            none or all of them.
        """
        n_both, n_fire, n_node = (np.asarray(part, np.int64) for part in (n_both, n_fire, n_node))
        log_p = np.empty(len(n_both))
        for first in range(0, len(n_both), _BLOCK_PAIRS):
            run = slice(first, first + _BLOCK_PAIRS)
            log_p[run] = self._tails(n_both[run], n_fire[run], n_node[run])
        return log_p

    def _tails(
        self,
        n_both: Int64[np.ndarray, "n_pairs"],
        n_fire: Int64[np.ndarray, "n_pairs"],
        n_node: Int64[np.ndarray, "n_pairs"],
    ) -> Float64[np.ndarray, "n_pairs"]:
        n = self.n_images
        has_test = (n_node > 0) & (n_node < n) & (n_fire > 0) & (n_fire < n)
        above = has_test & (n_both * n > n_fire * n_node)
        log_p = np.where(has_test, 0.0, np.nan)
        log_p[above] = self._tail_above(n_both[above], n_fire[above], n_node[above])
        # At most at chance: one less the other tail, of the images elsewhere. From 0 on, and from the least possible
        # number on, the tail is everything.
        rest = n - n_node
        below = has_test & ~above & (n_both > np.maximum(0, n_fire - rest))
        others = self._tail_above((n_fire - n_both + 1)[below], n_fire[below], rest[below])
        log_p[below] = np.log1p(-np.exp(others))
        return log_p

    def _tail_above(
        self,
        n_both: Int64[np.ndarray, "n_pairs"],
        n_fire: Int64[np.ndarray, "n_pairs"],
        n_node: Int64[np.ndarray, "n_pairs"],
    ) -> Float64[np.ndarray, "n_pairs"]:
        """The tails of values above the expected one, from where on every term is less than the one before it."""
        # Falling and rising factors of the ratio of two terms, as float64: exact integers.
        state = np.empty((6, len(n_both)))
        state[0] = n_node - n_both
        state[1] = n_fire - n_both
        state[2] = n_both + 1
        state[3] = self.n_images - n_node - n_fire + n_both + 1
        state[4:] = 1.0  # the term and the sum so far, over the first term
        total = np.empty(len(n_both))
        open_pairs = np.arange(len(n_both))
        while len(open_pairs):
            in_node, elsewhere, both, neither, term, tail = state
            for _ in range(_STEPS):  # beyond the last possible number the terms are 0
                term *= in_node * elsewhere / (both * neither)
                tail += term
                state[:2] -= 1.0
                state[2:4] += 1.0
            ratio = np.maximum(in_node * elsewhere / (both * neither), 0.0)
            # Ratios fall, so all that follows is less than a geometric series.
            goes_on = (term * ratio > _STOP * tail * (1.0 - ratio)) & (np.minimum(in_node, elsewhere) > 0)
            if not goes_on.all():
                total[open_pairs[~goes_on]] = tail[~goes_on]
                open_pairs, state = open_pairs[goes_on], state[:, goes_on]
        log_p: np.ndarray = np.minimum(self.log_term(n_both, n_fire, n_node) + np.log(total), 0.0)
        return log_p
