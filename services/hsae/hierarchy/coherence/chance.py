"""What chance gives for the classes that have scored images; made once and shared by the bases of an analysis."""

import logging
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int32

from hsae.hierarchy.coherence.excess import null_mean
from hsae.hierarchy.coherence.lch_excess import expected_lch_bits
from hsae.hierarchy.coherence.moments import MIN_CLASSES, PairMoments, pair_moments
from hsae.hierarchy.coherence.random_classes import random_classes
from hsae.hierarchy.coherence.resnik import MAX_CLASSES, ResnikSimilarity, resnik_similarity
from hsae.hierarchy.statistics.label_sets import Labels
from hsae.hierarchy.statistics.lowest_hypernyms import LowestHypernyms
from hsae.hierarchy.statistics.ranks import N_TOP_IMAGES
from hsae.taxonomy import InducedTaxonomy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Chance:
    """The null of one set of classes.

    Attributes:
        resnik: similarities of all classes.
        hypernyms: their lowest common hypernyms.
        keep: the classes with scored images; they are permuted over their places in the tree.
        seed: of draws and permutations.
        moments: mean and covariances of the similarities of the kept classes.
        draws: of these classes, as many different ones as a latent can have.
        lch_bits: `E_K[log2 |L_LCH|]` of `K` of them; entry `K - 1`.
    """

    resnik: ResnikSimilarity
    hypernyms: LowestHypernyms
    keep: Bool[np.ndarray, "n_classes"]
    seed: int
    moments: PairMoments
    draws: Int32[np.ndarray, "n_draws n"]
    lch_bits: Float64[np.ndarray, " n_sizes"]


class Chances:
    """The nulls of a taxonomy, by which of its classes have scored images."""

    def __init__(self, taxonomy: InducedTaxonomy, seed: int) -> None:
        """Compute nothing yet.

        Args:
            taxonomy: the induced taxonomy of the classes.
            seed: of draws and permutations.
        """
        self._taxonomy = taxonomy
        self._seed = seed
        self._of_taxonomy: tuple[ResnikSimilarity, LowestHypernyms] | None = None
        self._known: dict[tuple[bytes, int], Chance | None] = {}
        self._means: dict[bytes, float] = {}
        self._lch_bits: dict[tuple[bytes, int], Float64[np.ndarray, " n_sizes"]] = {}

    def of(self, labels: Labels) -> Chance | None:
        """The null of the classes that occur.

        Args:
            labels: of the scored images, from `checked_labels`.

        Returns:
            None, and a line in the log, if fewer than 3 classes have images or the taxonomy has too many classes.
        """
        keep = np.zeros(len(self._taxonomy.classes), np.bool_)
        keep[labels.indices if sp.issparse(labels) else labels] = True
        most_labels = int(np.diff(labels.indptr).max(initial=1)) if sp.issparse(labels) else 1
        n_drawn = min(int(keep.sum()), N_TOP_IMAGES * most_labels)
        key = keep.tobytes(), n_drawn
        if key not in self._known:
            self._known[key] = self._chance(keep, n_drawn)
        return self._known[key]

    def _chance(self, keep: Bool[np.ndarray, "n_classes"], n_drawn: int) -> Chance | None:
        undefined = "coherence and LCH excess stay undefined: "
        if len(keep) > MAX_CLASSES:
            log.warning(undefined + "%d classes, and at most %d fit memory", len(keep), MAX_CLASSES)
            return None
        if keep.sum() < MIN_CLASSES:
            log.warning(undefined + "%d classes have scored images, and it takes %d", keep.sum(), MIN_CLASSES)
            return None
        resnik, hypernyms = self._similarities()
        draws = random_classes(np.flatnonzero(keep), n_drawn, self._seed)
        lch_bits = expected_lch_bits(hypernyms, draws)
        self._lch_bits[keep.tobytes(), n_drawn] = lch_bits
        return Chance(resnik, hypernyms, keep, self._seed, pair_moments(resnik, keep), draws, lch_bits)

    def mean(self, keep: Bool[np.ndarray, "n_classes"]) -> float:
        """`mu0` of any classes, `null_mean`; of each set of classes it is computed once."""
        key = keep.tobytes()
        if key not in self._means:
            self._means[key] = null_mean(self._similarities()[0], keep)
        return self._means[key]

    def lch_bits(self, keep: Bool[np.ndarray, "n_classes"], n_sizes: int) -> Float64[np.ndarray, " n_sizes"]:
        """`Chance.lch_bits` of any classes."""
        key = keep.tobytes(), n_sizes
        if key not in self._lch_bits:
            draws = random_classes(np.flatnonzero(keep), n_sizes, self._seed)
            self._lch_bits[key] = expected_lch_bits(self._similarities()[1], draws)
        return self._lch_bits[key]

    def _similarities(self) -> tuple[ResnikSimilarity, LowestHypernyms]:
        if self._of_taxonomy is None:
            self._of_taxonomy = resnik_similarity(self._taxonomy), LowestHypernyms(self._taxonomy)
        return self._of_taxonomy
