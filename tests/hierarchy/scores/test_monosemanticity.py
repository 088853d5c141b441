import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.scores import monosemanticity as kernel
from hsae.hierarchy.scores.monosemanticity import monosemanticity
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


def slow_score(column, embeddings):
    """The definition, pair by pair."""
    column = column.astype(np.float64)
    if column.min() == column.max():
        return math.nan
    a = (column - column.min()) / (column.max() - column.min())
    e = embeddings.astype(np.float64)
    length = np.linalg.norm(e, axis=1, keepdims=True)
    e = np.divide(e, length, out=np.zeros_like(e), where=length > 0)
    above, below = [], []
    for n in range(len(a)):
        for m in range(n + 1, len(a)):
            above.append(a[n] * a[m] * float(e[n] @ e[m]))
            below.append(a[n] * a[m])
    return math.fsum(above) / math.fsum(below) if math.fsum(below) > 0 else math.nan


def assert_equals_the_definition(dense, embeddings, threshold=0.0):
    score = monosemanticity(rank_activations(sp.csr_array(dense), threshold=threshold), embeddings)
    for latent in range(dense.shape[1]):
        expected = slow_score(dense[:, latent], embeddings)
        assert score[latent] == pytest.approx(expected, abs=1e-9, nan_ok=True)


@examples(60)
@given(seed=seeds, width=st.sampled_from([1, 2, 64]), threshold=st.sampled_from([0.0, 0.5]))
def test_the_score_equals_the_quadratic_definition(random_case, seed, width, threshold):
    """Ties, dead, constant and dense latents, and embeddings of length 0."""
    case = random_case(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_BLOCK_FEATURES", width)
        assert_equals_the_definition(case.dense, case.neurons, threshold)


@examples(60)
@given(
    column=arrays.arrays(
        np.float32, st.integers(2, 12), elements=st.floats(0, 2.0**100, width=32) | st.sampled_from([0.0, 1.0, 1e-30])
    ),
    seed=seeds,
)
@example(column=np.array([1, 1e-12, 1e-12, 0], np.float32), seed=0)
@example(column=np.array([1, 1e-30, 1], np.float32), seed=0)
def test_one_image_that_outweighs_all_others_loses_no_digit(column, seed):
    embeddings = np.random.default_rng(seed).standard_normal((len(column), 5)).astype(np.float32)
    assert_equals_the_definition(column[:, np.newaxis], embeddings)


def test_alike_opposite_and_unrelated_images():
    embeddings = np.array([[1, 0], [5, 0], [-2, 0], [0, 3]], np.float32)
    dense = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2]], np.float32)
    score = monosemanticity(rank_activations(sp.csr_array(dense)), embeddings)
    np.testing.assert_allclose(score, [1, -1, 0, np.nan], atol=1e-15)


def test_a_latent_above_zero_everywhere_is_scaled_from_its_minimum():
    embeddings = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    dense = np.array([[5, 7], [5, 7], [3, 7], [3, 7]], np.float32)
    score = monosemanticity(rank_activations(sp.csr_array(dense)), embeddings)
    np.testing.assert_array_equal(score, [1, np.nan])


def test_embeddings_that_do_not_fit_are_refused():
    ranked = rank_activations(sp.csr_array(np.eye(3, dtype=np.float32)))
    with pytest.raises(UserError, match="one embedding per image"):
        monosemanticity(ranked, np.ones((2, 4), np.float32))
    broken = np.ones((3, 4), np.float32)
    broken[1, 2] = np.nan
    with pytest.raises(UserError, match="image 1"):
        monosemanticity(ranked, broken)
