import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hsae.errors import UserError
from hsae.hierarchy import controls
from hsae.hierarchy.controls import (
    n_kept_like,
    shuffle_labels,
    shuffle_taxonomy,
    thin_neurons,
    unthinned_auroc,
)

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, n_kept=st.integers(1, 7))
def test_thinning_equals_sorting(random_case, seed, n_kept):
    neurons = random_case(seed).neurons
    n_images, d_model = neurons.shape
    expected = np.zeros((n_images, 2 * d_model), np.float32)
    for image, row in enumerate(neurons):
        for neuron in sorted(range(d_model), key=lambda d: (-abs(row[d]), d))[:n_kept]:
            expected[image, neuron if row[neuron] > 0 else neuron + d_model] = abs(row[neuron])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "_BLOCK_VALUES", 2 * d_model)
        thinned = thin_neurons(neurons, n_kept)
    assert thinned.dtype == np.float32
    assert (thinned.data > 0).all()
    np.testing.assert_array_equal(thinned.toarray(), expected)


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_unthinned_auroc_equals_sklearns(random_case, seed):
    case = random_case(seed)
    d_model = case.neurons.shape[1]
    is_under = case.is_under()
    latents, nodes = (axis.ravel() for axis in np.indices((2 * d_model, is_under.shape[1])))
    shuffled = np.random.default_rng(seed).permutation(len(latents))
    latents, nodes = latents[shuffled], nodes[shuffled]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "_BLOCK_VALUES", 2 * len(case.neurons))
        auroc = unthinned_auroc(case.neurons, case.labels, case.taxonomy.closure, latents, nodes)
    for pair, (latent, node) in enumerate(zip(latents, nodes, strict=True)):
        sign = 1 if latent < d_model else -1
        column = np.maximum(sign * case.neurons[:, latent % d_model], 0)
        under = is_under[:, node]
        if under.any() and not under.all() and len(np.unique(column)) > 1:
            assert auroc[pair] == pytest.approx(roc_auc_score(under, column), abs=1e-9)
        else:
            assert np.isnan(auroc[pair])


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
def test_bad_neurons_are_refused(value):
    neurons = np.ones((3, 2), np.float32)
    neurons[1, 1] = value
    with pytest.raises(UserError, match="image 1, neuron 1"):
        thin_neurons(neurons, 1)
