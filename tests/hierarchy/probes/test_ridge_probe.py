"""Ridge probes against scikit-learn, and their leave-one-out errors against refitting without each image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeClassifier
from tests.examples import examples

from hsae.hierarchy.probes.ridge_probe import PENALTIES, ridge_probes


def blobs(seed, n=40, n_features=5, n_classes=6, spread=1.5):
    rng = np.random.default_rng(seed)
    y = np.concatenate((np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)))
    scales = 10.0 ** rng.integers(-1, 2, n_features)  # some features are far larger than others
    x = (rng.standard_normal((n_classes, n_features)) * 2)[y] + spread * rng.standard_normal((n, n_features))
    return (x * scales + rng.standard_normal(n_features) * 50).astype(np.float32), y


def labellings_of(n_classes):
    """The classes themselves, pairs of them, and two groups."""
    return [np.arange(n_classes), np.arange(n_classes) // 2, (np.arange(n_classes) >= n_classes // 2).astype(np.int64)]


def alpha_of(x, penalty):
    centred = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    return penalty * (centred**2).sum() / x.shape[1]


def refitted_loo_error(x, groups, alpha):
    """Leave each image out, fit again with a new intercept, and predict it."""
    x, targets, total = x.astype(np.float64), np.eye(groups.max() + 1)[groups], 0.0
    for image in range(len(x)):
        rest = np.arange(len(x)) != image
        model = Ridge(alpha=alpha, solver="svd").fit(x[rest], targets[rest])
        total += ((targets[image] - model.predict(x[[image]])[0]) ** 2).sum()
    return total


@pytest.mark.parametrize(("n", "n_features"), [(40, 5), (12, 30), (16, 15)])
@pytest.mark.parametrize("seed", [0, 1])
def test_leave_one_out_errors_equal_refitting(seed, n, n_features):
    x, y = blobs(seed, n=n, n_features=n_features)
    for labelling, probe in zip(labellings_of(6), ridge_probes(x, y, x[:0], labellings_of(6)), strict=True):
        expected = [refitted_loo_error(x, labelling[y], alpha_of(x, penalty)) for penalty in PENALTIES]
        np.testing.assert_allclose(probe.loo_errors, expected, rtol=1e-5)
        assert probe.penalty == PENALTIES[int(np.argmin(expected))]


@pytest.mark.parametrize(("n", "n_features"), [(60, 5), (20, 40)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_predictions_equal_scikit_learns_ridge_classifier(seed, n, n_features):
    x, y = blobs(seed, n=n + 30, n_features=n_features)
    train, score = x[:n], x[n:]
    for labelling, probe in zip(labellings_of(6), ridge_probes(train, y[:n], score, labellings_of(6)), strict=True):
        alpha = alpha_of(train, probe.penalty)
        reference = RidgeClassifier(alpha=alpha, solver="svd").fit(train.astype(np.float64), labelling[y[:n]])
        assert probe.predicted.tolist() == reference.predict(score.astype(np.float64)).tolist()


@examples(30)
@given(seed=st.integers(0, 1 << 30))
def test_integers_with_ties_duplicates_and_classes_without_training_images(seed):
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(2, 6))
    n = int(rng.integers(2, 14))
    y = rng.integers(0, n_classes, n)
    x = rng.integers(-2, 3, (n, 3)).astype(np.float32)
    score = rng.integers(-2, 3, (7, 3)).astype(np.float32)
    (probe,) = ridge_probes(x, y, score, [np.arange(n_classes)])
    alphas = [alpha_of(x, penalty) or 1.0 for penalty in PENALTIES]
    targets = np.eye(n_classes)[y]
    model = Ridge(alpha=alphas[PENALTIES.index(probe.penalty)], solver="svd").fit(x.astype(np.float64), targets)
    predicted = model.predict(score.astype(np.float64)).round(8)
    assert probe.predicted.tolist() == predicted.argmax(axis=1).tolist()
    expected = np.zeros(len(PENALTIES))
    for image in range(n):
        rest = np.arange(n) != image
        for at, alpha in enumerate(alphas):
            left = Ridge(alpha=alpha, solver="svd").fit(x[rest].astype(np.float64), targets[rest])
            expected[at] += ((targets[image] - left.predict(x[[image]].astype(np.float64))[0]) ** 2).sum()
    np.testing.assert_allclose(probe.loo_errors, expected, rtol=1e-4, atol=1e-9)


def test_images_that_do_not_vary_are_called_by_the_largest_group():
    x = np.full((5, 3), 0.1, np.float32)
    (probe,) = ridge_probes(x, np.array([0, 1, 1, 2, 1]), x[:2], [np.arange(3)])
    assert probe.predicted.tolist() == [1, 1]
    assert probe.penalty == PENALTIES[0]


def test_scale_and_shift_of_the_activations_change_nothing():
    x, y = blobs(3)
    probes = [ridge_probes(each, y, each, labellings_of(6)) for each in (x, x * np.float32(8.0))]
    for one, other in zip(*probes, strict=True):
        assert one.penalty == other.penalty
        assert one.predicted.tolist() == other.predicted.tolist()
        np.testing.assert_allclose(one.loo_errors, other.loo_errors, rtol=1e-9)


def test_a_labelling_does_not_depend_on_the_others():
    x, y = blobs(4)
    together = ridge_probes(x, y, x, labellings_of(6))
    for labelling, probe in zip(labellings_of(6), together, strict=True):
        (alone,) = ridge_probes(x, y, x, [labelling])
        assert alone.predicted.tolist() == probe.predicted.tolist()
        assert alone.loo_errors.tolist() == probe.loo_errors.tolist()


def test_it_can_be_stopped():
    x, y = blobs(5)

    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        ridge_probes(x, y, x, labellings_of(6), check=stop)
