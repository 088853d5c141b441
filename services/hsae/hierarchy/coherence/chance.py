"""What chance gives for the classes that have scored images; made once and shared by the bases of an analysis."""

import logging
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int32

from hsae.hierarchy.coherence.lch_excess import expected_lch_bits
from hsae.hierarchy.coherence.moments import MIN_CLASSES, PairMoments, pair_moments
from hsae.hierarchy.coherence.random_classes import random_classes
from hsae.hierarchy.coherence.resnik import MAX_CLASSES, ResnikSimilarity, resnik_similarity
from hsae.hierarchy.statistics.label_sets import Labels
from hsae.hierarchy.statistics.ranks import N_TOP_IMAGES
from hsae.taxonomy import InducedTaxonomy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Chance:
    """The null of one set of classes.

    Attributes:
        keep: the classes with scored images; they are permuted over their places in the tree.
        moments: mean and covariances of their similarities; NaN if there are fewer than 3.
        draws: of these classes, as many different ones as a latent can have.
        lch_bits: `E_K[log2 |L_LCH|]` by number of classes.
    """

    keep: Bool[np.ndarray, "n_classes"]
    moments: PairMoments
    draws: Int32[np.ndarray, "n_draws n"]
    lch_bits: Float64[np.ndarray, " n_sizes"]


class Chances:
    """The nulls of a taxonomy, by which of its classes have scored images."""

    def __init__(self, taxonomy: InducedTaxonomy, seed: int) -> None:
        """Compute the similarities of the classes.

        Args:
            taxonomy: the induced taxonomy of the classes.
            seed: of the draws and permutations.
        """
        self.taxonomy = taxonomy
        self.seed = seed
        self.resnik: ResnikSimilarity | None = None
        """None, and so no coherence, for more than `MAX_CLASSES` classes."""
        n_classes = len(taxonomy.classes)
        if n_classes > MAX_CLASSES:
            log.warning("no coherence of %d classes: it is defined for at most %d", n_classes, MAX_CLASSES)
        else:
            self.resnik = resnik_similarity(taxonomy)
        self._known: dict[tuple[bytes, int], Chance] = {}

    def of(self, labels: Labels) -> Chance:
        """The null of the classes that occur.

        Args:
            labels: of the scored images, from `checked_labels`.
        """
        keep = np.zeros(len(self.taxonomy.classes), np.bool_)
        keep[labels.indices if sp.issparse(labels) else labels] = True
        most_labels = int(np.diff(labels.indptr).max(initial=1)) if sp.issparse(labels) else 1
        n_drawn = min(int(keep.sum()), N_TOP_IMAGES * most_labels)
        key = keep.tobytes(), n_drawn
        if key not in self._known:
            self._known[key] = self._chance(keep, n_drawn)
        return self._known[key]

    def _chance(self, keep: Bool[np.ndarray, "n_classes"], n_drawn: int) -> Chance:
        draws = random_classes(np.flatnonzero(keep), n_drawn, self.seed)
        if keep.sum() < MIN_CLASSES:
            log.info("no coherence and LCH excess: %d classes have scored images, and 3 are needed", keep.sum())
            return Chance(keep, PairMoments.undefined(), draws, np.full(n_drawn + 1, np.nan))
        moments = PairMoments.undefined() if self.resnik is None else pair_moments(self.resnik, keep)
        return Chance(keep, moments, draws, expected_lch_bits(self.taxonomy, draws))
