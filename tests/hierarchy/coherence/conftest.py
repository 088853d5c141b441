"""Random latents on images of one class or of several."""

import numpy as np
import pytest
import scipy.sparse as sp


@pytest.fixture(scope="session")
def several_labels():
    """Labels as a matrix: each image keeps its class and may get others."""

    def make(labels, n_classes, rng):
        has = rng.random((len(labels), n_classes)) < 0.2
        has[np.arange(len(labels)), labels] = True
        return sp.csr_array(has)

    return make
