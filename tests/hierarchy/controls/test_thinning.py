"""Thinned controls, their AUROC before thinning, and shuffled labels and trees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from tests.examples import examples
from tests.hierarchy.controls.signed_bases import bases_of

from hsae.hierarchy.controls import thinning as controls
from hsae.hierarchy.controls.thinning import n_kept_like, shuffle_labels, shuffle_taxonomy, thin, unthinned_auroc

seeds = st.integers(0, 2**32 - 1)


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
