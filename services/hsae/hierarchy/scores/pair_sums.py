"""Scores of (latent, node) pairs as functions of sums over the node's images, on any device.

A score is a method of `PairSums` and a field of `NodeScores` with the same name.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from hsae.hierarchy.kernels.device import to_host
from hsae.hierarchy.statistics.hypergeometric import Hypergeometric


@dataclass(frozen=True, slots=True, eq=False)
class PairSums:
    """Sums from which the scores of some pairs are computed; the arrays broadcast against each other.

    Scores are NaN where undefined: all scores of a node without images; precision, recall and F1 of a latent that never
    fires; mass share and means of a latent that is 0 everywhere; the mean outside, adjusted F1 and p of a node with
    every image; p of a pair that is not above chance; AUROC and z of a node with every image, and of a
    constant latent. With `out`, the score is written there.

    Attributes:
        n_images: number of images of the analysis, `N`.
        n_node: number of images under the node, `n_v`.
        n_fire: number of images on which the latent fires, `N_j`.
        rank_variance: `N + 1 - tie_term / (N (N - 1))` of the latent, 0 if it is constant.
        n_both: number of images under the node on which the latent fires.
        rank_deviation: `2 U - n_v (N - n_v)`, twice the difference of the Mann-Whitney statistic and its expectation;
            None if not requested.
        mass: sum of the activations under the node; None if not requested.
        latent_mass: sum of all activations of the latent; None if not requested.
    """

    n_images: int
    n_node: Float64[Tensor, "*#shape"]
    n_fire: Float64[Tensor, "*#shape"]
    rank_variance: Float64[Tensor, "*#shape"]
    n_both: Float64[Tensor, "*shape"]
    rank_deviation: Float64[Tensor, "*shape"] | None = None
    mass: Float64[Tensor, "*shape"] | None = None
    latent_mass: Float64[Tensor, "*#shape"] | None = None

    def precision(self, *, out: Tensor | None = None) -> Float64[Tensor, "*shape"]:
        """`n_both / N_j`: share of the images on which the latent fires that are under the node."""
        return torch.addcdiv(_zero_or_nan(self.n_node), self.n_both, _or_nan(self.n_fire), out=out)

    def recall(self, *, out: Tensor | None = None) -> Float64[Tensor, "*shape"]:
        """`n_both / n_v`: share of the node's images on which the latent fires."""
        return torch.addcdiv(_zero_or_nan(self.n_fire), self.n_both, _or_nan(self.n_node), out=out)

    def f1(self, *, out: Tensor | None = None) -> Float64[Tensor, "*shape"]:
        """`2 n_both / (N_j + n_v)`, the harmonic mean of precision and recall."""
        # Halving is exact, so this is the same quotient.
        mean = torch.add(0.5 * _or_nan(self.n_fire), 0.5 * _or_nan(self.n_node), out=out)
        return torch.div(self.n_both, mean, out=mean)

    def f1_adjusted(self) -> Float64[Tensor, "*shape"]:
        """F1 corrected for the size of the node, as `adjusted_f1`."""
        share = _quotient(torch.where(self.n_node == self.n_images, torch.nan, self.n_node), self.n_images)
        always = 2.0 * share / (1.0 + share)
        return (self.f1() - always) / (1.0 - always)

    def p(self) -> Float64[Tensor, "*shape"]:
        """Exact test: the probability of `n_both` or more hits if firing did not depend on the node.

        The upper tail of the hypergeometric distribution (Fisher's exact test, one-sided), for this pair alone; 0 where
        it is below the smallest float64. It is computed for pairs above chance, `n_both > N_j n_v / N`; others have
        NaN. It is computed on the CPU on every device, as it is in `node_tests`: p-values are looked up among others,
        and logarithms differ between devices.
        """
        counts = (part.cpu().numpy() for part in (self.n_both, self.n_fire, self.n_node))
        return torch.from_numpy(_exact_p(self.n_images, *counts)).to(self.n_both.device)

    def auroc(self, *, out: Tensor | None = None) -> Float64[Tensor, "*shape"]:
        """`U / (n_v (N - n_v))`, as `1/2 + rank_deviation / (2 n_v (N - n_v))`.

        The probability that the latent is stronger on an image under the node than on another image; ties count one
        half.
        """
        n_pairs = _or_nan(self.n_node * (self.n_images - self.n_node))
        return torch.addcdiv(_zero_or_nan(self.rank_variance) + 0.5, self.ranks(), 2.0 * n_pairs, out=out)

    def z(self) -> Float64[Tensor, "*shape"]:
        """Mann-Whitney z-score with the tie correction, without a continuity correction.

        The variance of `U` is `n_v (N - n_v) (N + 1 - sum(t^3 - t) / (N (N - 1))) / 12` (Lehmann,
        Nonparametrics, 1975, section 1.4).
        """
        n_pairs = self.n_node * (self.n_images - self.n_node)
        spread = torch.sqrt(_quotient(_or_nan(n_pairs), 3.0)) * torch.sqrt(_or_nan(self.rank_variance))
        return torch.div(self.ranks(), spread, out=spread)

    def mass_share(self) -> Float64[Tensor, "*shape"]:
        """Share of the latent's activation mass that lies under the node."""
        mass, latent_mass = self.masses()
        return torch.addcdiv(_zero_or_nan(self.n_node), mass, _or_nan(latent_mass))

    def mean_inside(self) -> Float64[Tensor, "*shape"]:
        """Mean activation over all images under the node, zeros included."""
        mass, latent_mass = self.masses()
        return torch.addcdiv(_zero_or_nan(latent_mass), mass, _or_nan(self.n_node))

    def mean_outside(self) -> Float64[Tensor, "*shape"]:
        """Mean activation over all images that are not under the node, zeros included."""
        mass, latent_mass = self.masses()
        n_outside = _or_nan(self.n_images - self.n_node) + _zero_or_nan(self.n_node)
        return (latent_mass - mass) / (n_outside + _zero_or_nan(latent_mass))

    def ranks(self) -> Float64[Tensor, "*shape"]:
        """`rank_deviation`.

        Raises:
            ValueError: the sums were made without ranks.
        """
        if self.rank_deviation is None:
            raise ValueError("these sums were made without ranks")
        return self.rank_deviation

    def masses(self) -> tuple[Float64[Tensor, "*shape"], Float64[Tensor, "*#shape"]]:
        """`mass` and `latent_mass`.

        Raises:
            ValueError: the sums were made without masses.
        """
        if self.mass is None or self.latent_mass is None:
            raise ValueError("these sums were made without masses")
        return self.mass, self.latent_mass


@dataclass(frozen=True, eq=False)  # without slots, so that tables can be composed of it
class NodeScores:
    """All scores of some pairs, as arrays of one shape; NaN where undefined (see `PairSums`).

    The shape is [n_latents of the block, n_nodes] from `iter_node_scores`, [n_pairs] from `score_pairs`. Every field
    but the three counts is the method of `PairSums` of the same name.
    """

    n_images: Int64[np.ndarray, "*shape"]
    n_fire: Int64[np.ndarray, "*shape"]
    n_both: Int64[np.ndarray, "*shape"]
    precision: Float64[np.ndarray, "*shape"]
    recall: Float64[np.ndarray, "*shape"]
    f1: Float64[np.ndarray, "*shape"]
    f1_adjusted: Float64[np.ndarray, "*shape"]
    p: Float64[np.ndarray, "*shape"]
    auroc: Float64[np.ndarray, "*shape"]
    z: Float64[np.ndarray, "*shape"]
    mass_share: Float64[np.ndarray, "*shape"]
    mean_inside: Float64[np.ndarray, "*shape"]
    mean_outside: Float64[np.ndarray, "*shape"]

    @classmethod
    def of(cls, pairs: PairSums, *, transposed: bool = False) -> "NodeScores":
        """Call the method of every field; `transposed` swaps the two axes of the results."""
        counts = {"n_images": pairs.n_node, "n_fire": pairs.n_fire, "n_both": pairs.n_both}
        named = (field.name for field in fields(cls) if field.name not in counts and field.name != "p")
        # All scores leave the device at once, and p-values are computed where they arrive.
        arrays = to_host(counts | {name: getattr(pairs, name)() for name in named})
        n_node, n_fire, n_both = (arrays[name] for name in counts)
        arrays["p"] = _exact_p(pairs.n_images, n_both, n_fire, n_node)
        shape = n_both.shape
        arrays |= {name: np.broadcast_to(arrays[name].astype(np.int64), shape) for name in counts}
        return cls(**{name: values.T if transposed else values for name, values in arrays.items()})


def _exact_p(
    n_images: int,
    n_both: Float64[np.ndarray, "*shape"],
    n_fire: Float64[np.ndarray, "*#shape"],
    n_node: Float64[np.ndarray, "*#shape"],
) -> Float64[np.ndarray, "*shape"]:
    """`PairSums.p` of counts in CPU memory."""
    above = n_both * n_images > n_fire * n_node
    counts = (np.broadcast_to(part, above.shape)[above] for part in (n_both, n_fire, n_node))
    p = np.full(above.shape, np.nan)
    p[above] = np.exp(Hypergeometric.of(n_images).log_tail(*counts))
    return p


def _quotient(values: Float64[Tensor, "*shape"], divisor: float) -> Float64[Tensor, "*shape"]:
    """The correctly rounded quotient. CUDA multiplies by the reciprocal of a number, and divides by a tensor."""
    return values / torch.full_like(values, divisor)


def _or_nan(values: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """The values with 0 replaced by NaN, so that a division by them gives NaN."""
    return torch.where(values == 0.0, torch.nan, values)


def _zero_or_nan(values: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """NaN where the value is 0, otherwise 0; added to a score, it makes the score undefined there."""
    return 0.0 * _or_nan(values)
