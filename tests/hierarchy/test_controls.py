import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.controls import bases as dense_bases
from hsae.hierarchy.controls import thinning as controls
from hsae.hierarchy.controls.bases import latent_basis, neuron_basis, pca_basis, random_basis
from hsae.hierarchy.controls.thinning import n_kept_like, shuffle_labels, shuffle_taxonomy, thin, unthinned_auroc

seeds = st.integers(0, 2**32 - 1)


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


@examples(40)
@given(seed=seeds, n_kept=st.integers(1, 9), height=st.integers(1, 50))
def test_thinning_equals_sorting_and_does_not_depend_on_the_blocks(random_case, seed, n_kept, height):
    for basis, values, columns in bases_of(random_case(seed), seed):
        n_images, n_values = values.shape
        assert columns.shape == (basis.n_images, basis.n_columns)
        values = np.concatenate([basis.values(slice(i, i + height)) for i in range(0, n_images, height)])
        expected = np.zeros(columns.shape, np.float32)
        for image, row in enumerate(values):
            for index in sorted(range(n_values), key=lambda d: (-abs(row[d]), d))[:n_kept]:
                if row[index] != 0:
                    expected[image, index if row[index] > 0 else index + n_values] = abs(row[index])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(controls, "_BLOCK_VALUES", height * basis.n_columns)
            thinned = thin(basis, n_kept)
        assert thinned.dtype == np.float32
        assert (thinned.data > 0).all()
        np.testing.assert_array_equal(thinned.toarray(), expected)
        assert (np.diff(thinned.indptr) == np.minimum((values != 0).sum(axis=1), n_kept)).all()


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
@given(seed=seeds, which=st.integers(0, 3))
def test_unthinned_auroc_equals_sklearns(random_case, seed, which):
    case = random_case(seed)
    basis, _, _ = bases_of(case, seed)[which]
    is_under = case.is_under()
    latents, nodes = (axis.ravel() for axis in np.indices((basis.n_columns, is_under.shape[1])))
    shuffled = np.random.default_rng(seed).permutation(len(latents))
    latents, nodes = latents[shuffled], nodes[shuffled]
    columns = np.concatenate(
        [basis.columns(np.arange(first, min(first + 3, basis.n_columns))) for first in range(0, basis.n_columns, 3)],
        axis=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "_BLOCK_VALUES", 1)
        patch.setattr(controls, "_MIN_BLOCK_COLUMNS", 3)
        auroc = unthinned_auroc(basis, case.labels, case.taxonomy.closure, latents, nodes)
    assert len(auroc) == len(latents)
    for pair, (latent, node) in enumerate(zip(latents[:60], nodes[:60], strict=True)):
        column, under = columns[:, latent], is_under[:, node]
        if under.any() and not under.all() and len(np.unique(column)) > 1:
            assert auroc[pair] == pytest.approx(roc_auc_score(under, column), abs=1e-9)
        else:
            assert np.isnan(auroc[pair])


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


def test_shuffles_keep_what_they_promise():
    labels = np.random.default_rng(0).integers(0, 9, 200)
    shuffled = shuffle_labels(labels, 1)
    assert sorted(shuffled) == sorted(labels)
    assert (shuffled != labels).any()
    np.testing.assert_array_equal(shuffled, shuffle_labels(labels, 1))
    assert (shuffled != shuffle_labels(labels, 2)).any()

    moved = shuffle_taxonomy(labels, 9, 1)
    places = {(int(old), int(new)) for old, new in zip(labels, moved, strict=True)}
    assert len(places) == len({old for old, _ in places}) == len({new for _, new in places}) == 9
    assert (moved != labels).any()
    np.testing.assert_array_equal(moved, shuffle_taxonomy(labels, 9, 1))


def test_as_many_neurons_are_kept_as_latents_fire():
    assert n_kept_like(np.array([10, 4, 0]), 10) == 1
    assert n_kept_like(np.array([10, 6, 0]), 10) == 2
    assert n_kept_like(np.array([0, 0]), 10) == 1


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
