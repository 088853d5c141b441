"""The baselines of a case beside their values by plain definitions."""

import numpy as np
import scipy.sparse as sp

from hsae.hierarchy.controls.bases import BASES
from hsae.hierarchy.controls.bases.inputs import BaselineInputs


def inputs_of(case, **given):
    """What the baselines of a case are made from; its own latents stand for those of the untrained SAE."""
    return BaselineInputs(
        case.neurons, case.labels, case.taxonomy, **{"n_latents": case.z.shape[1], "untrained": case.z, **given}
    )


def columns_of(case, seed=0, **given):
    """All bases of a case by name."""
    made_from = inputs_of(case, **given)
    return {name: basis.columns(made_from, seed) for name, basis in BASES.items()}


def some_train_images(case, seed):
    """An ascending part of the images, one at least."""
    n_images = len(case.labels)
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(n_images)[: rng.integers(1, n_images + 1)])


def dense_of(fired):
    """float32[n_images, n_columns] of what `thresholded` found on some images."""
    shape = (fired.n_images, len(fired.indptr) - 1)
    return sp.csc_array((fired.activation, fired.image, fired.indptr), shape=shape).toarray()


def split_by_sign(values):
    return np.concatenate([values, -values], axis=1)


def cosine(rows, others):
    """Cosines of rows, in loops; 0 where either has no length."""
    found = np.zeros((len(rows), len(others)))
    for i, row in enumerate(rows):
        for j, other in enumerate(others):
            length = np.sqrt((row**2).sum()) * np.sqrt((other**2).sum())
            found[i, j] = (row * other).sum() / length if length > 0 else 0
    return found
