"""The classes associated with a latent, by one of three named rules."""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int64

from hsae.hierarchy.config import AssociationRule
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.hierarchy.statistics.label_sets import Labels, classes_of
from hsae.hierarchy.statistics.ranks import RankedActivations

RATE = 0.5
"""Rule `rate`: the latent fires on at least this share of the class's images (ours)."""

MASS_SHARE = 0.9
"""Rule `mass`: the classes have at least this share of the latent's activation mass (ours)."""

_BLOCK_CELLS = 1 << 22


def associated_classes(
    rule: AssociationRule,
    ranked: RankedActivations,
    sums: ClassSums,
    labels: Labels,
) -> "sp.csr_array[np.bool_]":
    """The associated classes `K_j` of every latent.

    - `topk`: all classes of its 16 strongest images (16 as in arXiv 2504.02821), fewer if it fires on fewer; ties go
      to the lower image number.
    - `rate`: the classes for which it fires on at least half of the images, `C[j, l] / n_l >= 0.5` (ours).
    - `mass`: the fewest classes that have 90 % of its activation mass, `sum_{l in K_j} S[j, l] >= 0.9 sum_l S[j, l]`,
      heaviest first, ties by class; an image of several classes adds its activation to each (ours).

    Args:
        rule: name of the rule.
        ranked: activations of every latent.
        sums: sums by class (not by label set).
        labels: from `checked_labels`.

    Returns:
        bool[n_latents, n_classes]. The row of a latent that never fires is empty (rule `mass`: of a latent whose
        activations are all 0).
    """
    if rule == "topk":
        latent, place = np.nonzero(ranked.top_images >= 0)
        entry, classes = classes_of(labels, ranked.top_images[latent, place])
        return _sets(latent[entry], classes, sums)
    latent = np.repeat(np.arange(sums.n_latents), np.diff(sums.indptr))
    if rule == "rate":
        is_in = (sums.n_fire > 0) & (sums.n_fire >= RATE * sums.class_sizes[sums.classes])
        return _sets(latent[is_in], sums.classes[is_in], sums)
    return _heaviest(sums)


def _heaviest(sums: ClassSums) -> "sp.csr_array[np.bool_]":
    width = max(1, _BLOCK_CELLS // sums.n_classes)
    latents, classes = [], []
    for first in range(0, sums.n_latents, width):
        run = slice(first, min(first + width, sums.n_latents))
        entries, row = sums.entries(run)
        mass = np.zeros((run.stop - first, sums.n_classes))
        mass[row, sums.classes[entries]] = sums.mass[entries]
        order = np.argsort(-mass, axis=1, kind="stable")
        mass = np.take_along_axis(mass, order, axis=1)
        running = np.cumsum(mass, axis=1)
        before = running - mass
        # A class is needed while the classes before it have less than the share. The tolerance is for a share that is
        # reached exactly, up to rounding.
        needed = (MASS_SHARE - 1e-12) * running[:, -1:]
        latent, place = np.nonzero((before < needed) & (mass > 0))
        latents.append(latent + first)
        classes.append(order[latent, place])
    return _sets(np.concatenate(latents), np.concatenate(classes), sums)


def _sets(
    latents: Int64[np.ndarray, "n_members"], classes: Int64[np.ndarray, "n_members"], sums: ClassSums
) -> "sp.csr_array[np.bool_]":
    shape = (sums.n_latents, sums.n_classes)
    cells = np.unique(latents.astype(np.int64) * sums.n_classes + classes)
    rows, columns = np.divmod(cells, sums.n_classes)
    return sp.csr_array((np.ones(len(cells), np.bool_), (rows, columns)), shape=shape)
