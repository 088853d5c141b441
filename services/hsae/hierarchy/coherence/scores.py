"""Coherence, purity and LCH excess of every latent of a basis, and of its layer."""

from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64

from hsae.hierarchy.coherence.chance import Chance
from hsae.hierarchy.coherence.class_pairs import top_class_pairs
from hsae.hierarchy.coherence.excess import mean_coherence
from hsae.hierarchy.coherence.latent_p import latent_p
from hsae.hierarchy.coherence.lch_excess import lch_excess
from hsae.hierarchy.coherence.purity import null_purity, purity
from hsae.hierarchy.coherence.tree_permutations import mean_weights
from hsae.hierarchy.statistics.label_sets import Labels
from hsae.hierarchy.statistics.ranks import RankedActivations


@dataclass(frozen=True, slots=True, eq=False)
class LatentCoherence:
    """How close the classes of every latent's strongest images are; NaN where undefined. See docs/metrics.md.

    Attributes:
        coherence: `T_j`, mean Resnik similarity in bits of two of its 16 strongest images that are of different
            classes; undefined for a latent whose images are of one class, and for a dead one.
        coherence_excess: `T_j - mu0`, over the mean of two different classes at random.
        coherence_z: the same in standard deviations of `T_j` when classes are permuted over the tree.
        coherence_p: one-sided p-value of `T_j` by 10,000 draws of classes; the least is 1/10001.
        purity: share of the pairs of its strongest images that are of one class.
        purity_excess: the same over that of images at random.
        lch_excess: `E_K[log2 |L_LCH|] - log2 |L_lch(j)|` in bits; for latents of 2 classes or more that fire on 16
            images or more.
    """

    coherence: Float64[np.ndarray, "n_latents"]
    coherence_excess: Float64[np.ndarray, "n_latents"]
    coherence_z: Float64[np.ndarray, "n_latents"]
    coherence_p: Float64[np.ndarray, "n_latents"]
    purity: Float64[np.ndarray, "n_latents"]
    purity_excess: Float64[np.ndarray, "n_latents"]
    lch_excess: Float64[np.ndarray, "n_latents"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class LayerCoherence:
    """The same of a layer: means over the latents for which they are defined; NaN over none.

    Attributes:
        coherence: mean `T_j`, `Tbar`, in bits.
        coherence_null: `mu0`, what classes at random give.
        coherence_excess: `Tbar - mu0`.
        coherence_excess_weighted: the same with latents weighted by the number of images on which they fire.
        coherence_p: one-sided p-value of `Tbar` by 999 permutations of the tree within strata of class size; NaN for a
            shuffled basis.
        n_coherent: number of latents with a `T_j`.
        purity: mean purity.
        purity_null: purity of images at random.
        lch_excess_mean: mean LCH excess.
        n_lch_eligible: number of latents with an LCH excess.
    """

    coherence: float
    coherence_null: float
    coherence_excess: float
    coherence_excess_weighted: float
    coherence_p: float
    n_coherent: int
    purity: float
    purity_null: float
    lch_excess_mean: float
    n_lch_eligible: int


def coherence_scores(
    ranked: RankedActivations, labels: Labels, n_classes: int, null: Chance | None, *, is_brief: bool
) -> tuple[LatentCoherence, LayerCoherence, "sp.csr_array[np.float64] | None"]:
    """Compute all of them for one basis.

    The p-value of the layer is left NaN: `layer_p` tests all bases of an analysis at once.

    Args:
        ranked: activations of every latent on the scored images.
        labels: of these images, from `checked_labels`.
        n_classes: number of classes of the taxonomy.
        null: what chance gives for the classes of these images; None leaves all but purity undefined.
        is_brief: whether latents are not stored, as of shuffled labels or taxonomies; then there are no p-values.

    Returns:
        Of the latents, and of the layer; and what `layer_p` needs, `mean_weights`, None where it is undefined.
    """
    coherence, z, p, lch = (np.full(ranked.n_latents, np.nan) for _ in range(4))
    mu0 = float("nan")
    weights = None
    if null is not None:
        pairs = top_class_pairs(ranked.top_images, labels, null.resnik)
        mu0 = null.moments.mean
        coherence = pairs.coherence()
        lch = lch_excess(pairs, ranked.n_fire, null.hypernyms, null.lch_bits)
        if not is_brief:
            variance = null.moments.variance(pairs)
            z = (coherence - mu0) / np.sqrt(np.where(variance > 0, variance, np.nan))
            p = latent_p(pairs, coherence, null.draws)
            weights = mean_weights(pairs, null.keep)
    pure, pure_null = purity(ranked.top_images, labels, n_classes), null_purity(labels, n_classes)
    mean, weighted = mean_coherence(coherence, ranked.n_fire)
    latents = LatentCoherence(
        coherence=coherence,
        coherence_excess=coherence - mu0,
        coherence_z=z,
        coherence_p=p,
        purity=pure,
        purity_excess=pure - pure_null,
        lch_excess=lch,
    )
    layer = LayerCoherence(
        coherence=mean,
        coherence_null=mu0,
        coherence_excess=mean - mu0,
        coherence_excess_weighted=weighted - mu0,
        coherence_p=float("nan"),
        n_coherent=int(np.isfinite(coherence).sum()),
        purity=_mean(pure),
        purity_null=pure_null,
        lch_excess_mean=_mean(lch),
        n_lch_eligible=int(np.isfinite(lch).sum()),
    )
    return latents, layer, weights


def _mean(values: Float64[np.ndarray, "n_latents"]) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")
