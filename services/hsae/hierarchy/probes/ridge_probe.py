"""Ridge regression on one-hot targets: linear probes of many labellings from one decomposition of the activations.

Every labelling joins the same classes to groups, so everything that a penalty is chosen by follows from sums over
classes. What costs time, the decomposition and one weighted product per penalty, does not depend on the labellings.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int64

from hsae.hierarchy.kernels.blocks import go_on

PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 0.0001, 0.00001)
"""Candidate penalties, strongest first, in units of the mean eigenvalue of the centred `X^T X`."""

_DECIMALS = 10
_BLOCK_VALUES = 1 << 23


@dataclass(frozen=True, slots=True, eq=False)
class RidgeProbe:
    """The ridge classifier of one labelling.

    Attributes:
        penalty: the penalty with the least leave-one-out error, one of `PENALTIES`.
        loo_errors: sum over the training images and groups of the squared leave-one-out residual, of each of
            `PENALTIES`.
        predicted: the group with the greatest prediction, of every scored image; ties: the smaller group.
    """

    penalty: float
    loo_errors: Float64[np.ndarray, "n_penalties"]
    predicted: Int64[np.ndarray, "n_score"]


def ridge_probes(
    x_train: Float32[np.ndarray, "n_train d_model"],
    y_train: Int64[np.ndarray, "n_train"],
    x_score: Float32[np.ndarray, "n_score d_model"],
    labellings: Sequence[Int64[np.ndarray, "n_classes"]],
    *,
    check: Callable[[], None] = go_on,
) -> list[RidgeProbe]:
    """Train a ridge classifier for each labelling, and classify the scored images.

    The classifier is scikit-learn's `RidgeClassifier` with `alpha = penalty * |X|^2 / d_model`: features centred by the
    training images' mean, not scaled; one target of 0 and 1 for each group; an intercept without a penalty. The penalty
    is chosen for each labelling by the exact squared error of leaving one training image out (the hat matrix formula:
    the residual over `1 - h_i`; Allen 1974, as in `RidgeCV`); ties: the stronger penalty.

    All of it is float64. Predictions are rounded to 10 decimals, so that equal ones tie in any order of summation.

    Args:
        x_train: the training images, at least 2; all values finite.
        y_train: class of every training image, from 0.
        x_score: the images to classify.
        labellings: for each labelling the group of every class, numbered from 0.
        check: called at every penalty and every block of images; may raise to stop.
    """
    if not labellings:
        return []
    train = _decompose(x_train.astype(np.float64))
    check()
    joins = [_joins(labelling) for labelling in labellings]
    shape = (len(labellings[0]), len(y_train))
    members = sp.csr_array((np.ones(len(y_train)), (y_train, np.arange(len(y_train)))), shape)
    sums = np.asarray(members @ train.rows)
    errors = _loo_errors(train, members, sums, joins, check)
    best = [int(of_labelling.argmin()) for of_labelling in errors]
    weights, shares = [], []
    for join, chosen in zip(joins, best, strict=True):
        weights.append((np.asarray(join @ sums) / (train.eigenvalues + PENALTIES[chosen] * train.unit)).T)
        shares.append(np.asarray(join @ np.asarray(members @ np.ones(len(y_train)))) / len(y_train))
    predicted = np.empty((len(labellings), len(x_score)), np.int64)
    widest = max(len(share) for share in shares)
    height = max(1, _BLOCK_VALUES // max(widest, x_train.shape[1]))
    for first in range(0, len(x_score), height):
        rows = train.project(x_score[first : first + height].astype(np.float64))
        for which, (weight, share) in enumerate(zip(weights, shares, strict=True)):
            check()
            predicted[which, first : first + height] = np.round(rows @ weight + share, _DECIMALS).argmax(axis=1)
    return [
        RidgeProbe(PENALTIES[chosen], of_labelling, groups)
        for chosen, of_labelling, groups in zip(best, errors, predicted, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class RidgeScores:
    """A ridge classifier as a linear function: `x @ weight + intercept`, the greatest score is the group.

    Attributes:
        weight: of every group.
        intercept: of every group.
        penalty: as in `RidgeProbe`.
    """

    weight: Float64[np.ndarray, "d_model n_groups"]
    intercept: Float64[np.ndarray, "n_groups"]
    penalty: float


def ridge_scores(
    x_train: Float32[np.ndarray, "n_train d_model"],
    y_train: Int64[np.ndarray, "n_train"],
    *,
    check: Callable[[], None] = go_on,
) -> RidgeScores:
    """The classifier of `ridge_probes` for one labelling, to be applied to any activations.

    Args:
        x_train: the training images, at least 2; all values finite.
        y_train: group of every training image, all of 0 to the greatest.
        check: called at every penalty; may raise to stop.
    """
    train = _decompose(x_train.astype(np.float64))
    check()
    n_groups = int(y_train.max()) + 1
    join = _joins(np.arange(n_groups))
    members = sp.csr_array((np.ones(len(y_train)), (y_train, np.arange(len(y_train)))), (n_groups, len(y_train)))
    sums = np.asarray(members @ train.rows)
    (errors,) = _loo_errors(train, members, sums, [join], check)
    penalty = PENALTIES[int(errors.argmin())]
    weight = train.axes @ (sums / (train.eigenvalues + penalty * train.unit)).T
    share = np.bincount(y_train, minlength=n_groups) / len(y_train)
    return RidgeScores(weight, share - train.mean @ weight, penalty)


@dataclass(frozen=True, slots=True, eq=False)
class _Decomposition:
    """The centred training images in the basis of their principal axes.

    Attributes:
        mean: the training images' mean.
        axes: orthonormal; those with no variance are left out.
        eigenvalues: sum of squares along every axis.
        rows: the centred images along the axes.
        unit: mean eigenvalue over all `d_model` axes, the unit of a penalty; 1 if the images do not vary.
    """

    mean: Float64[np.ndarray, "d_model"]
    axes: Float64[np.ndarray, "d_model rank"]
    eigenvalues: Float64[np.ndarray, "rank"]
    rows: Float64[np.ndarray, "n_train rank"]
    unit: float

    @property
    def is_full(self) -> bool:
        """Whether a linear function of the rows gives any centred target exactly."""
        return len(self.eigenvalues) == len(self.rows) - 1

    def project(self, x: Float64[np.ndarray, "n d_model"]) -> Float64[np.ndarray, "n rank"]:
        """Other images along the axes."""
        projected: Float64[np.ndarray, "n rank"] = (x - self.mean) @ self.axes
        return projected


def _decompose(x: Float64[np.ndarray, "n_train d_model"]) -> _Decomposition:
    """Eigendecomposition of the smaller of `X^T X` and `X X^T`."""
    n, d_model = x.shape
    mean = x.mean(axis=0)
    largest = np.abs(x).max(initial=0.0)
    x = x - mean
    x[:, np.abs(x).max(axis=0, initial=0.0) <= 1e-12 * largest] = 0.0  # rounding errors of constant features
    is_tall = n > d_model
    eigenvalues, vectors = np.linalg.eigh(x.T @ x if is_tall else x @ x.T)
    is_kept = eigenvalues > max(n, d_model) * np.finfo(np.float64).eps * eigenvalues.max(initial=0.0)
    eigenvalues, vectors = eigenvalues[is_kept], vectors[:, is_kept]
    if is_tall:
        axes, rows = vectors, x @ vectors
    else:
        rows = vectors * np.sqrt(eigenvalues)
        axes = x.T @ (vectors / np.sqrt(eigenvalues))
    unit = float(eigenvalues.sum()) / d_model
    return _Decomposition(mean, axes, eigenvalues, rows, unit if unit > 0 else 1.0)


def _joins(labelling: Int64[np.ndarray, "n_classes"]) -> "sp.csr_array[np.float64]":
    """Sums over classes to sums over groups."""
    n_classes = len(labelling)
    shape = (int(labelling.max()) + 1, n_classes)
    return sp.csr_array((np.ones(n_classes), (labelling, np.arange(n_classes))), shape)


def _loo_errors(
    train: _Decomposition,
    members: "sp.csr_array[np.float64]",
    sums: Float64[np.ndarray, "n_classes rank"],
    joins: "Sequence[sp.csr_array[np.float64]]",
    check: Callable[[], None],
) -> Float64[np.ndarray, "n_labellings n_penalties"]:
    """Squared leave-one-out error of every labelling and penalty.

    With `z_i` the row of image `i`, `w_i = 1 / (1 - h_i)^2`, `b_g` the sum of the rows of group `g` and `t_i` its
    target minus the targets' mean, the error is `sum_i w_i |t_i - A z_i|^2`, where `A` has the rows
    `b_g / (eigenvalues + penalty)`. Multiplied out, it needs `sum_i w_i z_i z_i^T` and sums over classes alone (ours).
    With as many axes as images less one, `t_i` is itself linear in `z_i`, and the residual is what the penalty shrinks.
    """
    n = len(train.rows)
    squares = train.rows**2
    sizes = np.asarray(members @ np.ones(n))
    grouped = [np.asarray(join @ sums) for join in joins]
    products = [of_groups.T @ of_groups for of_groups in grouped]
    errors = np.empty((len(joins), len(PENALTIES)))
    for at, penalty in enumerate(PENALTIES):
        check()
        shrunk = 1.0 / (train.eigenvalues + penalty * train.unit)
        if train.is_full:  # written so, nothing cancels
            shrunk = penalty * train.unit * shrunk / train.eigenvalues
        left_out = squares @ shrunk if train.is_full else 1.0 - 1.0 / n - squares @ shrunk
        weight = np.maximum(left_out, np.finfo(np.float64).eps) ** -2.0
        weighted = train.rows * weight[:, np.newaxis]
        moment = train.rows.T @ weighted
        moment *= shrunk[:, np.newaxis] * shrunk
        errors[:, at] = [float((product * moment).sum()) for product in products]
        if train.is_full:
            continue
        weight_of_class = np.asarray(members @ weight)
        weighted_sums = np.asarray(members @ weighted)
        for which, (join, of_groups) in enumerate(zip(joins, grouped, strict=True)):
            share = np.asarray(join @ sizes) / n
            target = np.asarray(join @ weight_of_class) @ (1.0 - 2.0 * share) + weight.sum() * (share @ share)
            slopes = of_groups * shrunk
            both = (slopes * np.asarray(join @ weighted_sums)).sum() - (share @ slopes) @ weighted_sums.sum(axis=0)
            errors[which, at] += target - 2.0 * both
    return errors
