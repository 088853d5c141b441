"""The columns of every baseline against plain definitions and scikit-learn."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from tests.examples import examples
from tests.hierarchy.controls.dense_columns import columns_of, cosine, inputs_of, some_train_images, split_by_sign

from hsae.errors import UserError
from hsae.hierarchy.controls.bases import BASES
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.vocabulary import bases
from hsae.vocabulary.bases import BASELINES, CEILINGS, CONTROL_BASES

seeds = st.integers(0, 2**32 - 1)


def all_values(columns):
    """float32[n_images, n_columns]"""
    return columns.values(np.arange(columns.n_columns)).numpy().T


def inputs(activations, n_latents=6, **given):
    return BaselineInputs(activations, np.zeros(len(activations), np.int64), None, n_latents, **given)


def test_every_name_has_its_class():
    assert list(BASES) == list(CONTROL_BASES)
    assert [name for name, basis in BASES.items() if basis.is_ceiling] == list(CEILINGS)
    assert set(BASELINES) == set(CONTROL_BASES) - set(CEILINGS)
    assert [name for name, basis in BASES.items() if basis.is_repeated] == ["random"]
    assert {name for name, basis in BASES.items() if not basis.needs_one_token} == {"neuron", "untrained"}


def test_every_name_has_its_words():
    assert len(set(bases.BASES)) == len(bases.BASES)
    assert set(bases.BASIS_NAMES) == set(bases.BASES)
    assert set(bases.CONTROL_HEADINGS) == set(bases.BASES) - {"sae"}


@examples(40)
@given(seed=seeds)
def test_values_follow_the_definitions(random_case, seed):
    case = random_case(seed)
    train = some_train_images(case, seed)
    found = columns_of(case, seed, train=train)
    centred = case.neurons.astype(np.float64) - case.neurons[train].astype(np.float64).mean(axis=0)
    n_latents = case.z.shape[1]

    exemplars = np.random.Generator(np.random.PCG64(seed)).permutation(train)[:n_latents]
    assert found["exemplar"].n_columns == min(n_latents, len(train))
    random = np.random.Generator(np.random.PCG64(seed)).standard_normal((-(-n_latents // 2), centred.shape[1]))
    random /= np.sqrt((random**2).sum(axis=1))[:, np.newaxis]
    expected = {
        "exemplar": cosine(centred, centred[exemplars]),
        "random": split_by_sign(centred @ random.T),
        "neuron": split_by_sign(centred),
        "untrained": case.dense,
    }
    for name, values in expected.items():
        assert all_values(found[name]).dtype == np.float32
        np.testing.assert_allclose(all_values(found[name]), values, atol=2e-6 * max(1, np.abs(values).max()))
    variance = case.neurons[train].astype(np.float64).var(axis=0)
    by_variance = sorted(range(len(variance)), key=lambda neuron: (-variance[neuron], neuron))
    assert found["neuron"].order.tolist() == [n + s for n in by_variance for s in (0, len(variance))]


@examples(40)
@given(seed=seeds)
def test_class_means_follow_the_definition(random_case, seed):
    case = random_case(seed)
    train = some_train_images(case, seed)
    is_under = case.is_under()[train]
    activations = case.neurons[train].astype(np.float64)
    directions, sizes, known = [], [], set()
    for node in range(is_under.shape[1]):
        under = is_under[:, node]
        if under.any() and not under.all() and under.tobytes() not in known:
            known.add(under.tobytes())
            direction = activations[under].mean(axis=0) - activations[~under].mean(axis=0)
            directions.append(direction / max(np.sqrt((direction**2).sum()), 1e-300))
            sizes.append(under.sum())
    found = BASES["class_mean"].columns(inputs_of(case, train=train), 0)
    assert found.n_columns == len(directions)
    centred = case.neurons - activations.mean(axis=0)
    if directions and np.abs(directions).max() <= 1:
        # A difference of zero is a direction of rounding errors in the loop, and of zeros here.
        is_sure = np.abs(np.array(directions)).sum(axis=1) > 0
        values = centred @ np.array(directions).T
        np.testing.assert_allclose(all_values(found)[:, is_sure], values[:, is_sure], atol=1e-3)
    assert found.order.tolist() == sorted(range(len(sizes)), key=lambda column: (-sizes[column], column))


@examples(30)
@given(seed=seeds)
def test_some_images_and_some_columns_are_those_of_all(random_case, seed):
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    images = some_train_images(case, seed)
    for name, columns in columns_of(case, seed).items():
        if columns.n_columns == 0:
            continue
        chosen = rng.permutation(columns.n_columns)[: columns.n_columns // 2 + 1]
        part = columns.on(images)
        assert (part.n_images, part.n_columns) == (len(images), columns.n_columns)
        expected = all_values(columns)[images][:, chosen].T
        np.testing.assert_allclose(part.values(chosen), expected, rtol=1e-5, atol=1e-5, err_msg=name)
        assert sorted(columns.order.tolist()) == list(range(columns.n_columns))


@examples(30)
@given(seed=seeds)
def test_only_train_images_make_a_basis(random_case, seed):
    """Whatever the other images show, the columns are the same: exemplars, means, clusters and axes."""
    case = random_case(seed)
    train = some_train_images(case, seed)
    others = np.setdiff1d(np.arange(len(case.labels)), train)
    before = columns_of(case, seed, train=train, select=train)
    case.neurons[others] += 7
    case.labels[others] = 0
    after = columns_of(case, seed, train=train, select=train)
    for name in BASES:
        np.testing.assert_array_equal(before[name].order, after[name].order, err_msg=name)
        np.testing.assert_array_equal(all_values(before[name])[train], all_values(after[name])[train], err_msg=name)


@examples(25)
@given(seed=seeds, n_images=st.integers(12, 60), d_model=st.integers(1, 10), offset=st.sampled_from([0, 50]))
def test_principal_directions_equal_sklearns(seed, n_images, d_model, offset):
    rng = np.random.default_rng(seed)
    activations = (rng.standard_normal((n_images, d_model)) * 2.0 ** np.arange(d_model) + offset).astype(np.float32)
    train = np.sort(rng.permutation(n_images)[:12])
    given = inputs(activations, train=train)
    fitted = PCA(svd_solver="full").fit(activations[train].astype(np.float64))
    directions = given.principal_directions
    np.testing.assert_allclose(directions, fitted.components_, atol=2e-5)
    scores = fitted.transform(activations.astype(np.float64))
    found = BASES["pca"].columns(given, 0)
    np.testing.assert_allclose(all_values(found), split_by_sign(scores), atol=1e-4 * np.abs(scores).max())
    assert found.order.tolist() == [n + s for n in range(d_model) for s in (0, d_model)]
    greatest = directions[np.arange(d_model), np.abs(directions).argmax(axis=1)]
    assert (greatest > 0).all()


def test_a_direction_in_which_the_images_do_not_differ_has_constant_columns():
    rng = np.random.default_rng(0)
    activations = (rng.standard_normal((30, 2)) @ rng.standard_normal((2, 6)) + 10).astype(np.float32)
    activations[:, 5] = 3
    assert (all_values(BASES["pca"].columns(inputs(activations), 0))[:, [5, 11]] == 0).all()
    assert (all_values(BASES["neuron"].columns(inputs(activations), 0))[:, [5, 11]] == 0).all()
    assert (all_values(BASES["exemplar"].columns(inputs(np.full((4, 3), 7, np.float32)), 0)) == 0).all()


def test_an_offset_that_all_images_share_changes_nothing():
    activations = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    for name in ("exemplar", "kmeans", "pca", "random", "neuron"):
        here, moved = (BASES[name].columns(inputs(x), 3) for x in (activations, activations + 1000))
        np.testing.assert_allclose(all_values(here), all_values(moved), atol=1e-3, err_msg=name)
    one, other = (all_values(BASES["random"].columns(inputs(activations), seed)) for seed in (3, 4))
    assert (one != other).all()


def test_pooled_neurons_are_taken_as_they_are():
    pooled = sp.csr_array(np.array([[0, 1, 2], [3, 0, 2]], np.float32))
    found = BASES["neuron"].columns(inputs(np.ones((2, 3), np.float32), pooled_neurons=pooled, select=np.array([1])), 0)
    np.testing.assert_array_equal(all_values(found), pooled.toarray())
    assert found.order.tolist() == [0, 2, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", [name for name in CONTROL_BASES if name not in ("untrained", "class_mean")])
def test_bad_activations_are_refused(name, value):
    activations = np.ones((3, 2), np.float32)
    activations[1, 1] = value
    with pytest.raises(UserError, match="image 1, neuron 1"):
        BASES[name].columns(inputs(activations), 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1])
def test_bad_latents_are_refused(value):
    z = sp.csr_array(np.array([[0, 1], [value, 0]], np.float32))
    with pytest.raises(UserError, match="untrained SAE's latent activations hold 1"):
        BASES["untrained"].columns(inputs(np.ones((2, 2), np.float32), untrained=z), 0)
