"""The dense bases of a case beside their values as plain matrices."""

import numpy as np

from hsae.hierarchy.controls.bases import latent_basis, neuron_basis, pca_basis, random_basis


def split_by_sign(values):
    return np.concatenate([np.maximum(values, 0), np.maximum(-values, 0)], axis=1)


def bases_of(case, seed):
    """Every dense basis of a case, with its signed values and its columns as plain matrices."""
    centred = case.neurons - case.neurons.mean(axis=0, dtype=np.float64)
    bases = {"neuron": neuron_basis(case.neurons), "untrained": latent_basis(case.z)}
    values = {"neuron": case.neurons, "untrained": case.dense}
    for name, basis in (("pca", pca_basis(case.neurons)), ("random", random_basis(case.neurons, 5, seed))):
        bases[name] = basis
        values[name] = centred.astype(np.float32) @ basis.directions.T
    columns = {name: case.dense if name == "untrained" else split_by_sign(values[name]) for name in bases}
    return [(bases[name], values[name], columns[name]) for name in bases]
