"""The dense bases of the controls against scikit-learn and the definitions."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from tests.examples import examples
from tests.hierarchy.controls.signed_bases import bases_of

from hsae.errors import UserError
from hsae.hierarchy.controls import bases as dense_bases
from hsae.hierarchy.controls.bases import latent_basis, neuron_basis, pca_basis, random_basis
from hsae.hierarchy.controls.thinning import thin

seeds = st.integers(0, 2**32 - 1)


@examples(30)
@given(seed=seeds, height=st.integers(1, 50))
def test_columns_are_the_parts_of_the_values(random_case, seed, height):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense_bases, "_BLOCK_ROWS", height)
        for basis, _, columns in bases_of(random_case(seed), seed):
            chosen = np.random.default_rng(seed).permutation(basis.n_columns)[: basis.n_columns // 2 + 1]
            found = basis.columns(chosen)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, columns[:, chosen], rtol=1e-5, atol=1e-5)


@examples(25)
@given(seed=seeds, n_images=st.integers(12, 60), d_model=st.integers(1, 10), offset=st.sampled_from([0, 50]))
def test_principal_directions_equal_sklearns(seed, n_images, d_model, offset):
    rng = np.random.default_rng(seed)
    activations = (rng.standard_normal((n_images, d_model)) * 2.0 ** np.arange(d_model) + offset).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense_bases, "_BLOCK_ROWS", 7)
        basis = pca_basis(activations)
        fitted = PCA(svd_solver="full").fit(activations.astype(np.float64))
        np.testing.assert_allclose(basis.directions, fitted.components_, atol=2e-5)
        scores = fitted.transform(activations.astype(np.float64))
        np.testing.assert_allclose(basis.values(slice(None)), scores, atol=1e-4 * np.abs(scores).max())
    assert basis.n_columns == 2 * d_model
    greatest = basis.directions[np.arange(d_model), np.abs(basis.directions).argmax(axis=1)]
    assert (greatest > 0).all()


def test_a_direction_in_which_the_images_do_not_differ_has_dead_columns():
    rng = np.random.default_rng(0)
    activations = (rng.standard_normal((30, 2)) @ rng.standard_normal((2, 6)) + 10).astype(np.float32)
    activations[:, 5] = 3
    flat = pca_basis(activations)
    assert (flat.values(slice(None))[:, 5] == 0).all()
    constant = pca_basis(np.full((4, 3), 7, np.float32))
    assert thin(constant, 2).nnz == 0


def test_random_directions_are_unit_and_follow_the_seed():
    activations = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    basis = random_basis(activations, 9, 3)
    assert basis.directions.shape == (5, 6)
    assert basis.n_columns == 10
    np.testing.assert_allclose(np.linalg.norm(basis.directions, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(basis.directions, random_basis(activations + 1, 9, 3).directions)
    assert (basis.directions != random_basis(activations, 9, 4).directions).all()
    # An offset that all images share is taken off.
    moved = random_basis(activations + 1000, 9, 3).values(slice(None))
    np.testing.assert_allclose(moved, basis.values(slice(None)), atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("make", [neuron_basis, pca_basis, lambda x: random_basis(x, 4, 0)])
def test_bad_activations_are_refused(make, value):
    activations = np.ones((3, 2), np.float32)
    activations[1, 1] = value
    with pytest.raises(UserError, match="image 1, neuron 1"):
        make(activations)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_bad_latents_are_refused(value):
    z = sp.csr_array(np.array([[0, 1], [value, 0]], np.float32))
    with pytest.raises(UserError, match="untrained SAE's latent activations hold 1"):
        latent_basis(z)
