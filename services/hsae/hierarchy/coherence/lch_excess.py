"""LCH excess: how much smaller the lowest common hypernym of a latent's classes is than that of classes at random."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int32, UInt8

from hsae.hierarchy.coherence.class_pairs import ClassPairs
from hsae.taxonomy import InducedTaxonomy

MIN_FIRED = 16
"""A latent is eligible if it fires on as many images as represent it."""

_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class CommonHypernyms:
    """The closure as bits, for the lowest common hypernyms of very many small sets of classes.

    Attributes:
        is_under: one bit for every class and node, nodes in the order in which `InducedTaxonomy.lch` prefers them.
        log_classes: `log2 |L_v|` of the nodes in that order, `L_v` the classes at or under node `v`.
    """

    is_under: UInt8[np.ndarray, "n_classes n_bytes"]
    log_classes: Float64[np.ndarray, "n_nodes"]

    @classmethod
    def of(cls, taxonomy: InducedTaxonomy) -> "CommonHypernyms":
        """Those of a taxonomy."""
        n_nodes = len(taxonomy.synsets)
        order = np.lexsort((np.arange(n_nodes), taxonomy.leaf_counts, taxonomy.height))
        closure = taxonomy.closure[:, order]
        step = max(1, _BLOCK_BYTES // n_nodes)
        packed = [np.packbits(closure[at : at + step].toarray(), axis=1) for at in range(0, closure.shape[0], step)]
        return cls(np.concatenate(packed), np.log2(taxonomy.leaf_counts[order]))

    def lch_bits(self, classes: Int[np.ndarray, "n_sets n"]) -> Float64[np.ndarray, "n_sets n"]:
        """`log2 |L_LCH|` of the first class of every row, of its first two classes, and so on."""
        values = np.empty(classes.shape)
        height = max(1, _BLOCK_BYTES // self.is_under.shape[1])
        for first in range(0, len(classes), height):
            rows = slice(first, first + height)
            common = np.full((len(classes[rows]), self.is_under.shape[1]), 255, np.uint8)
            for k in range(classes.shape[1]):
                common &= self.is_under[classes[rows, k]]
                byte = (common != 0).argmax(axis=1)  # there is one: the root is above all
                inside = np.unpackbits(common[np.arange(len(common)), byte][:, np.newaxis], axis=1).argmax(axis=1)
                values[rows, k] = self.log_classes[8 * byte + inside]
        return values


def expected_lch_bits(
    hypernyms: CommonHypernyms, draws: Int32[np.ndarray, "n_draws n"]
) -> Float64[np.ndarray, " n_sizes"]:
    """`E_K[log2 |L_LCH|]` of `K` classes at random; entry `K - 1`.

    Args:
        hypernyms: of the taxonomy.
        draws: classes at random; the first `K` of a row are a draw of `K` classes.
    """
    return np.asarray(hypernyms.lch_bits(draws).mean(axis=0))


def lch_excess(
    pairs: ClassPairs,
    n_fire: Int[np.ndarray, "n_latents"],
    hypernyms: CommonHypernyms,
    expected: Float64[np.ndarray, " n_sizes"],
) -> Float64[np.ndarray, "n_latents"]:
    """`g_j = E_K[log2 |L_LCH|] - log2 |L_lch(j)|` in bits, positive where the latent's classes are closer than chance.

    `lch(j)` is the lowest common hypernym of the `K` classes of the latent's strongest images (rule `topk`). Ours; the
    same correction of the logarithm of ontological coverage is the same number.

    Args:
        pairs: the latents with two classes or more.
        n_fire: number of images on which each latent fires.
        hypernyms: of the taxonomy.
        expected: from `expected_lch_bits`.

    Returns:
        NaN for a latent of fewer than 2 classes, or that fires on fewer than 16 images.
    """
    values = np.full(pairs.n_latents, np.nan)
    for block in pairs.blocks:
        is_eligible = n_fire[block.latents] >= MIN_FIRED
        found = hypernyms.lch_bits(block.classes[is_eligible])[:, -1]
        values[block.latents[is_eligible]] = expected[block.classes.shape[1] - 1] - found
    return values
