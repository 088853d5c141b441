import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.probes.image_parts import TrainAndScore, stratified_split
from hsae.hierarchy.probes.linear_probe import L2_GRID, fit_softmax_regression, linear_probe


def blobs(seed, n_images=300, n_features=6, n_classes=4, spread=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n_images)
    centres = rng.standard_normal((n_classes, n_features)) * 2
    return (centres[labels] + spread * rng.standard_normal((n_images, n_features))).astype(np.float32), labels


@pytest.mark.parametrize("l2", [1.0, 0.01])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_fit_equals_sklearns(l2, n_classes):
    x, y = blobs(0, n_classes=n_classes)
    weight, bias = fit_softmax_regression(torch.from_numpy(x), torch.from_numpy(y), n_classes, l2, tolerance=1e-6)
    # With two classes scikit-learn fits one weight vector, the difference of ours, at half the penalty.
    c = 1 / (l2 * len(y)) * (2 if n_classes == 2 else 1)
    reference = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit(x.astype(np.float64), y)
    ours, intercept = weight.numpy().T, bias.numpy()
    if n_classes == 2:
        ours, intercept = ours[1:] - ours[:1], intercept[1:] - intercept[:1]
    else:
        intercept = intercept - intercept.mean() + reference.intercept_.mean()
    np.testing.assert_allclose(ours, reference.coef_, atol=5e-3)
    np.testing.assert_allclose(intercept, reference.intercept_, atol=1e-2)
    agreement = (torch.from_numpy(x) @ weight + bias).argmax(dim=1).numpy() == reference.predict(x)
    assert agreement.mean() > 0.99


def test_accuracy_is_about_sklearns():
    x, y = blobs(1, n_images=600, n_features=10, n_classes=8, spread=2.5)
    result = linear_probe(x, y, seed=3)
    is_test = stratified_split(y, 0.25, 3)
    mean, spread = x[~is_test].mean(axis=0), x[~is_test].std(axis=0)
    x = (x - mean) / spread
    reference = LogisticRegression(C=1 / (result.l2 * (~is_test).sum()), max_iter=10_000)
    expected = reference.fit(x[~is_test], y[~is_test]).score(x[is_test], y[is_test])
    assert result.accuracy == pytest.approx(expected, abs=0.02)
    assert (result.n_train, result.n_test, result.n_classes) == ((~is_test).sum(), is_test.sum(), 8)
    assert result.l2 in L2_GRID
    assert result.accuracy > 2 * result.chance


def test_the_probe_is_deterministic_and_its_seed_matters():
    x, y = blobs(2)
    assert linear_probe(x, y, seed=1) == linear_probe(x, y, seed=1)
    assert (stratified_split(y, 0.25, 1) != stratified_split(y, 0.25, 2)).any()


@examples(60)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=8), seed=st.integers(0, 100))
def test_the_split_is_stratified(sizes, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    is_test = stratified_split(y, 0.25, seed)
    for label, size in enumerate(sizes):
        n_test = int(is_test[y == label].sum())
        assert n_test == (0 if size == 1 else min(max(1, int(0.25 * size + 0.5)), size - 1))


def test_other_parts_train_and_score_other_images():
    x, y = blobs(7)
    given = TrainAndScore(np.arange(0, 200), np.arange(210, 300))
    result = linear_probe(x, y, parts=given)
    assert (result.n_train, result.n_test) == (200, 90)
    changed = x.copy()
    changed[200:210] += 100  # images of neither part
    assert linear_probe(changed, y, parts=given) == result


def test_features_without_spread_are_harmless():
    x, y = blobs(4)
    constant = np.concatenate((x, np.full((len(x), 2), [7, 0.1], np.float32)), axis=1)
    assert linear_probe(constant, y).accuracy == pytest.approx(linear_probe(x, y).accuracy, abs=0.03)


@pytest.mark.parametrize("labels", [np.zeros(20, int), np.arange(20)])
def test_without_two_classes_or_a_test_image_the_accuracy_is_undefined(labels):
    result = linear_probe(np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32), labels)
    assert np.isnan(result.accuracy)
    assert np.isnan(result.l2)


def test_two_images_per_class_leave_none_to_choose_the_penalty_on():
    x, y = blobs(5, n_images=40)
    labels = np.arange(40) // 2
    result = linear_probe(x, labels)
    assert result.n_train == result.n_test == 20
    assert result.l2 == 0.01
    assert y.shape == labels.shape


def test_bad_input_is_refused():
    x, y = blobs(6)
    with pytest.raises(UserError, match="one per image"):
        linear_probe(x, y[1:])
    x[3, 2] = np.nan
    with pytest.raises(UserError, match="NaN"):
        linear_probe(x, y)
