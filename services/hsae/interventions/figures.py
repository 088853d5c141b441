"""Figures of merit of one intervention on a node: specificity, forgetting, retention, and the curve over distances.

All of them are of one classification: the target node as one class, beside every class outside it as itself. An image
under the node is right where the readout places it under the node, any other where it names its class. So what an edit
confuses within the node costs nothing, and what it confuses elsewhere does. Every class counts the same (ours).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import rankdata, t

from hsae.interventions.effects import Readings, Tree

_LEVEL = 0.95
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over classes with its 95 % t interval; NaN with fewer than two classes."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The classes at one distance from the target.

    Attributes:
        distance: see `distances_from`; 0: the classes of the target.
        n_classes: with scored images.
        accuracy: the mean drop in accuracy.
        accuracy_null: 2.5 % and 97.5 % points of that drop in shuffled trees; NaN at distance 0.
        log_odds: the mean drop in log-odds.
        log_odds_null: as `accuracy_null`.
    """

    distance: int
    n_classes: int
    accuracy: Mean
    accuracy_null: tuple[float, float]
    log_odds: Mean
    log_odds_null: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """What an intervention did; accuracies are means over classes.

    Attributes:
        n_inside: classes of the target with scored images.
        n_outside: the other classes with scored images.
        inside: accuracy of the target's classes before and after.
        outside: accuracy of the others before and after.
        log_odds_inside: mean log-odds of the target on its classes' images, before and after.
        log_odds_outside: mean log-odds of the others' own classes, before and after.
        specificity: drop of the accuracy inside minus that outside, with an interval over classes.
        specificity_log_odds: the same of log-odds.
        forgetting: share of the accuracy inside that is lost.
        retention: share of the accuracy outside that is left.
        distance_correlation: Spearman correlation, over the classes outside, of distance and drop (in log-odds, or in
            accuracy where there are none).
        distance_p: share of shuffled trees with a correlation as low, one of them being the true one.
        curve: the drop by distance.
    """

    n_inside: int
    n_outside: int
    inside: tuple[float, float]
    outside: tuple[float, float]
    log_odds_inside: tuple[float, float]
    log_odds_outside: tuple[float, float]
    specificity: Mean
    specificity_log_odds: Mean
    forgetting: float
    retention: float
    distance_correlation: float
    distance_p: float
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The node of an intervention, and the images that are scored.

    Attributes:
        node: the node.
        distance: of every class from it.
        labels: class of every image.
    """

    node: int
    distance: Int64[np.ndarray, "n_classes"]
    labels: Int64[np.ndarray, "n"]


def figures(before: Readings, after: Readings, target: Target, tree: Tree, *, n_shuffles: int, seed: int) -> Figures:
    """Compare what a readout says before and after an intervention.

    The shuffled trees permute the classes outside the target over the places outside it: what is left of the curve
    then is what chance gives where near classes are hit no harder than far ones.

    Args:
        before: of the unedited images.
        after: of the same images, edited.
        target: the node.
        tree: the taxonomy.
        n_shuffles: shuffled trees.
        seed: of the shuffles.
    """
    present = np.flatnonzero(np.bincount(target.labels, minlength=len(tree.inside)))
    is_inside = tree.inside[present, target.node] > 0
    right = [class_means(right_images(one, target, tree), target.labels, present) for one in (before, after)]
    odds = [class_means(image_log_odds(one, target, tree), target.labels, present) for one in (before, after)]
    drop, odds_drop = right[0] - right[1], odds[0] - odds[1]
    inside = (_mean(right[0][is_inside]), _mean(right[1][is_inside]))
    outside = (_mean(right[0][~is_inside]), _mean(right[1][~is_inside]))
    distance = target.distance[present]
    shuffles = _shuffles(int((~is_inside).sum()), n_shuffles, seed)
    effect = drop if np.isnan(odds_drop).all() else odds_drop
    correlation, p = _falls(distance[~is_inside], effect[~is_inside], shuffles)
    return Figures(
        n_inside=int(is_inside.sum()),
        n_outside=int((~is_inside).sum()),
        inside=inside,
        outside=outside,
        log_odds_inside=(_mean(odds[0][is_inside]), _mean(odds[1][is_inside])),
        log_odds_outside=(_mean(odds[0][~is_inside]), _mean(odds[1][~is_inside])),
        specificity=difference(drop[is_inside], drop[~is_inside]),
        specificity_log_odds=difference(odds_drop[is_inside], odds_drop[~is_inside]),
        forgetting=1.0 - inside[1] / inside[0] if inside[0] > 0 else _NAN,
        retention=outside[1] / outside[0] if outside[0] > 0 else _NAN,
        distance_correlation=correlation,
        distance_p=p,
        curve=_curve(distance, is_inside, (drop, odds_drop), shuffles),
    )


def interval(values: Float64[np.ndarray, "n"]) -> Mean:
    """The mean of some classes with its t interval; those that are NaN are left out."""
    values = values[~np.isnan(values)]
    n = len(values)
    if n < 2:
        return Mean(_mean(values), _NAN, _NAN)
    reach = float(t.ppf((1 + _LEVEL) / 2, n - 1)) * float(values.std(ddof=1)) / n**0.5
    return Mean(_mean(values), _mean(values) - reach, _mean(values) + reach)


def difference(one: Float64[np.ndarray, "n"], other: Float64[np.ndarray, "m"]) -> Mean:
    """The difference of two means over classes with Welch's t interval; a part of one class has no interval.

    Classes that are NaN are left out.
    """
    one, other = one[~np.isnan(one)], other[~np.isnan(other)]
    value = _mean(one) - _mean(other)
    if len(one) < 2 or len(other) < 2:
        return Mean(value, _NAN, _NAN)
    parts = np.array([one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)])
    variance = float(parts.sum())
    if not variance > 0:  # all classes have one value; NaN has no interval
        return Mean(value, value, value) if variance == 0 else Mean(value, _NAN, _NAN)
    freedom = variance**2 / float((parts**2 / np.array([len(one) - 1, len(other) - 1])).sum())
    reach = float(t.ppf((1 + _LEVEL) / 2, freedom)) * variance**0.5
    return Mean(value, value - reach, value + reach)


def right_images(readings: Readings, target: Target, tree: Tree) -> Float64[np.ndarray, "n"]:
    """1 for every image that is right: under the target, placed under it; elsewhere, its own class named."""
    under = tree.inside[:, target.node] > 0
    labels, predicted = target.labels, readings.predicted
    return np.asarray(np.where(under[labels], under[predicted], predicted == labels), np.float64)


def image_log_odds(readings: Readings, target: Target, tree: Tree) -> Float64[np.ndarray, "n"]:
    """Of every image: under the target, the target's log-odds; elsewhere, those of its own class."""
    if readings.own_log_odds is None or not tree.has_outside[target.node]:
        return np.full(len(target.labels), np.nan)
    under = tree.inside[target.labels, target.node] > 0
    return np.where(under, readings.target_log_odds[target.node], readings.own_log_odds)


def class_means(
    values: Float64[np.ndarray, "n"], labels: Int64[np.ndarray, "n"], present: Int64[np.ndarray, "n_present"]
) -> Float64[np.ndarray, "n_present"]:
    """The mean over the images of each class that has some."""
    place = np.searchsorted(present, labels)
    means: Float64[np.ndarray, "n_present"] = np.bincount(place, weights=values) / np.bincount(place)
    return means


def _mean(values: Float64[np.ndarray, "n"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else _NAN


def _shuffles(n: int, n_shuffles: int, seed: int) -> Int64[np.ndarray, "n_shuffles n"]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return np.stack([rng.permutation(n) for _ in range(n_shuffles)])


def _falls(
    distance: Int64[np.ndarray, "n"], effect: Float64[np.ndarray, "n"], shuffles: Int64[np.ndarray, "n_shuffles n"]
) -> tuple[float, float]:
    """The Spearman correlation of distance and effect, and how rarely a shuffled tree has one as low."""
    if len(distance) < 3 or np.isnan(effect).any():  # a class that the readout does not know has no place in a rank
        return _NAN, _NAN
    rounded = np.round(effect, 12)  # 1 - 2/3 is greater than 2/3 - 1/3 by a rounding
    x, y = rankdata(distance) - (len(distance) + 1) / 2, rankdata(rounded) - (len(distance) + 1) / 2
    norm = float(np.sqrt((x @ x) * (y @ y)))
    if not norm > 0:
        return _NAN, _NAN
    found = float(x @ y)
    shuffled = y[shuffles] @ x
    tolerance = 1e-9 * norm
    return found / norm, float((1 + (shuffled <= found + tolerance).sum()) / (1 + len(shuffles)))


def _curve(
    distance: Int64[np.ndarray, "n"], is_inside: Bool[np.ndarray, "n"],
    drops: tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]], shuffles: Int64[np.ndarray, "n_shuffles m"],
) -> tuple[CurvePoint, ...]:  # fmt: skip
    points = []
    if is_inside.any():
        inside = [interval(drop[is_inside]) for drop in drops]
        points.append(CurvePoint(0, int(is_inside.sum()), inside[0], (_NAN, _NAN), inside[1], (_NAN, _NAN)))
    outside = [drop[~is_inside] for drop in drops]
    steps, places = np.unique(distance[~is_inside], return_inverse=True)
    share = np.eye(len(steps))[places] / np.maximum(1, np.bincount(places, minlength=len(steps)))
    nulls = [np.quantile(drop[shuffles] @ share, (0.025, 0.975), axis=0).T for drop in outside]
    for at, step in enumerate(steps.tolist()):
        there = places == at
        accuracy, odds = (interval(drop[there]) for drop in outside)
        of_accuracy, of_odds = ((float(null[at, 0]), float(null[at, 1])) for null in nulls)
        points.append(CurvePoint(step, int(there.sum()), accuracy, of_accuracy, odds, of_odds))
    return tuple(points)
