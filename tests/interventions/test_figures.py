"""Effects and figures of merit against slow loops over images and classes."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hsae.interventions.effects import Effect, Readings, Tree, distances_from
from hsae.interventions.figures import Target, difference, figures, interval
from hsae.interventions.readouts import Reading


def random_case(small_taxonomy, seed, *, with_logits=True, knows_all=False):
    """Before and after, with a class that has no images and one that no probe knows (`knows_all`: none such)."""
    rng = np.random.default_rng(seed)
    tree = Tree.of(small_taxonomy)
    n_classes = len(tree.inside)
    labels = rng.integers(0, n_classes - 1, 30)
    readings = []
    targets = tuple(range(tree.inside.shape[1]))
    for _ in range(2):
        logits = np.round(rng.normal(0, 2, (30, n_classes)), 1)
        if not knows_all:
            logits[:, 0] = -np.inf
        effect = Effect(targets)
        for part in (slice(0, 11), slice(11, 30)):
            effect.add(Reading(logits[part].argmax(1), logits[part] if with_logits else None), labels[part], tree)
        readings.append((logits, Readings.of(effect, labels, tree)))
    return tree, labels, readings


def slow_log_odds(logits, members):
    """NaN where the readout knows none, or all, of the classes: it does not know class 0."""
    if not members[1:].any() or members[1:].all():
        return np.nan
    p = np.exp(logits - logits.max())
    p /= p.sum()
    inside = sum(p[c] for c in range(len(p)) if members[c])
    outside = sum(p[c] for c in range(len(p)) if not members[c])
    return np.log(inside) - np.log(outside)


@given(seed=st.integers(0, 200))
def test_log_odds_and_accuracy_of_every_node(small_taxonomy, seed):
    tree, labels, readings = random_case(small_taxonomy, seed)
    for logits, found in readings:
        for node in range(tree.inside.shape[1]):
            members = tree.inside[:, node] > 0
            images = [i for i in range(30) if members[labels[i]]]
            odds = [slow_log_odds(logits[i], members) for i in images]
            if not images:
                assert np.isnan(found.node_accuracy[node])
                assert np.isnan(found.node_log_odds[node])
                continue
            right = np.mean([members[logits[i].argmax()] for i in images])
            assert found.node_accuracy[node] == pytest.approx(right)
            assert found.node_log_odds[node] == pytest.approx(np.mean(odds), nan_ok=True)
            for i in range(30):
                expected = slow_log_odds(logits[i], members)
                assert found.target_log_odds[node][i] == pytest.approx(expected, nan_ok=True)
        for i in range(30):
            own = np.arange(len(tree.inside)) == labels[i]
            assert found.own_log_odds[i] == pytest.approx(slow_log_odds(logits[i], own), nan_ok=True)


def slow_drop(before, after, node, members, labels, c):
    """The mean drop in log-odds of a class: of the target on its own images, else of the class."""
    if before.own_log_odds is None:
        return np.nan
    each = [
        one.target_log_odds[node][i] if members[c] else one.own_log_odds[i]
        for one in (before, after) for i in range(30) if labels[i] == c
    ]  # fmt: skip
    n = len(each) // 2
    return np.mean(each[:n]) - np.mean(each[n:])


@given(seed=st.integers(0, 200), with_logits=st.booleans())
def test_figures_are_their_definitions(small_taxonomy, seed, with_logits):
    tree, labels, ((_, before), (_, after)) = random_case(small_taxonomy, seed, with_logits=with_logits)
    names = [synset.name for synset in small_taxonomy.synsets]
    for name in ("bird", "tool", "hen", "animal"):
        node = names.index(name)
        distance = distances_from(small_taxonomy, node)[small_taxonomy.classes]
        found = figures(before, after, Target(node, distance, labels), tree, n_shuffles=49, seed=3)
        members = tree.inside[:, node] > 0
        drops = {}
        accuracy = {}
        for c in sorted(set(labels.tolist())):
            right = [
                np.mean([
                    members[one.predicted[i]] if members[c] else one.predicted[i] == c
                    for i in range(30) if labels[i] == c
                ])
                for one in (before, after)
            ]  # fmt: skip
            accuracy[c] = right
            drops[c] = right[0] - right[1]
        inside = [drops[c] for c in drops if members[c]]
        outside = [drops[c] for c in drops if not members[c]]
        assert (found.n_inside, found.n_outside) == (len(inside), len(outside))
        if inside:
            assert found.specificity.value == pytest.approx(np.mean(inside) - np.mean(outside))
            kept = np.mean([accuracy[c][1] for c in drops if members[c]])
            first = np.mean([accuracy[c][0] for c in drops if members[c]])
            if first > 0:
                assert found.forgetting == pytest.approx(1 - kept / first)
            else:
                assert np.isnan(found.forgetting)
        odds = {c: slow_drop(before, after, node, members, labels, c) for c in drops}
        known = [[odds[c] for c in drops if members[c] == side and not np.isnan(odds[c])] for side in (True, False)]
        expected = np.mean(known[0]) - np.mean(known[1]) if with_logits and all(known) else np.nan
        assert found.specificity_log_odds.value == pytest.approx(expected, nan_ok=True)
        by_distance = {}
        for c in drops:
            by_distance.setdefault(0 if members[c] else int(distance[c]), []).append(drops[c])
        assert {point.distance: point.n_classes for point in found.curve} == {
            step: len(values) for step, values in by_distance.items()
        }
        for point in found.curve:
            assert point.accuracy.value == pytest.approx(np.mean(by_distance[point.distance]))
            if point.distance:
                assert point.accuracy_null[0] <= np.mean(outside) + 1e-12
                assert point.accuracy_null[1] >= np.mean(outside) - 1e-12
        if not np.isnan(found.distance_correlation) and not with_logits:
            places = [int(distance[c]) for c in drops if not members[c]]
            assert found.distance_correlation == pytest.approx(stats.spearmanr(places, outside).statistic)
            assert 1 / 50 <= found.distance_p <= 1


def test_equal_drops_are_equal_whatever_the_accuracy_was(small_taxonomy):
    """As numbers they differ: 1 - 2/3 is greater than 2/3 - 1/3. Every class outside loses one of its three images."""
    tree, node = Tree.of(small_taxonomy), [synset.name for synset in small_taxonomy.synsets].index("hen")
    distance = distances_from(small_taxonomy, node)[small_taxonomy.classes]
    (hen,) = np.flatnonzero(tree.inside[:, node])
    labels = np.repeat(np.arange(6), 3)
    readings = []
    for lost in (0, 1):
        n_right = np.array([3, 1, 2, 3, 2, 1]) - lost
        is_right = np.arange(18) % 3 < n_right[labels]
        effect = Effect(())
        effect.add(Reading(np.where(is_right, labels, hen), None), labels, tree)
        readings.append(Readings.of(effect, labels, tree))
    before, after = readings
    found = figures(before, after, Target(node, distance, labels), tree, n_shuffles=9, seed=0)
    outside = [point for point in found.curve if point.distance]
    assert [point.accuracy.value for point in outside] == pytest.approx([1 / 3] * 3)
    assert np.isnan(found.distance_correlation)
    assert np.isnan(found.distance_p)


def test_distances_are_zero_under_the_target_and_edges_elsewhere(small_taxonomy):
    names = [synset.name for synset in small_taxonomy.synsets]
    found = dict(zip(names, distances_from(small_taxonomy, names.index("bird")).tolist(), strict=True))
    assert found == {
        "bird": 0, "hen": 0, "owl": 0, "animal": 1, "fish": 2, "eel": 3, "cod": 3, "thing": 2, "tool": 3, "saw": 4,
        "axe": 4,
    }  # fmt: skip


def test_intervals_are_those_of_t_tests():
    rng = np.random.default_rng(1)
    one, other = rng.normal(1, 1, 7), rng.normal(0, 3, 5)
    found = interval(one)
    low, high = stats.t.interval(0.95, 6, loc=one.mean(), scale=stats.sem(one))
    assert [found.low, found.high] == pytest.approx([low, high])
    welch = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    between = difference(one, other)
    assert [between.low, between.high] == pytest.approx([welch.low, welch.high])
    assert np.isnan(interval(one[:1]).low)
    assert np.isnan(difference(one[:1], other).high)
    same = difference(np.ones(3), np.zeros(4))
    assert (same.low, same.value, same.high) == (1, 1, 1)


def test_a_falling_curve_has_a_small_p(small_taxonomy):
    """Effects that follow the distance, among enough classes to tell it from chance."""
    from hsae.interventions.figures import _falls, _shuffles

    distance = np.repeat(np.arange(1, 9), 4)
    falling, p = _falls(distance, 1.0 / distance, _shuffles(32, 999, 0))
    assert [falling, p] == pytest.approx([-1, 1 / 1000])
    rising, p = _falls(distance, distance * 1.0, _shuffles(32, 999, 0))
    assert [rising, p] == pytest.approx([1, 1])
    flat, p = _falls(distance, np.ones(32), _shuffles(32, 9, 0))
    assert np.isnan(flat)
    assert np.isnan(p)


def every_shuffle(n, n_shuffles, seed):
    return np.array(list(permutations(range(n))), np.int64)


def slow_null(places, effect):
    """Over every permutation of the classes outside: quantiles of the mean by distance, and p of the correlation.

    Two of six drops that are 2/3 - 1/3 and 1 - 2/3 are equal: hence the rounding.
    """
    effect = [round(float(value), 12) for value in effect]
    if any(np.isnan(effect)):  # a class that the readout does not know: nothing is known of a shuffled tree
        return dict.fromkeys(places, (np.nan, np.nan)), np.nan
    by_distance = {step: [] for step in places}
    correlations = []
    for order in permutations(range(len(places))):
        moved = [effect[at] for at in order]
        for step, means in by_distance.items():
            means.append(np.mean([value for value, place in zip(moved, places, strict=True) if place == step]))
        if len(places) > 2 and len(set(places)) > 1 and len(set(effect)) > 1:
            correlations.append(stats.spearmanr(places, moved).statistic)
    quantiles = {step: tuple(np.percentile(means, (2.5, 97.5))) for step, means in by_distance.items()}
    if not correlations:
        return quantiles, np.nan
    as_low = sum(one <= correlations[0] + 1e-9 for one in correlations)  # the first permutation changes nothing
    return quantiles, (1 + as_low) / (1 + len(correlations))


@given(seed=st.integers(0, 200), knows_all=st.booleans(), with_logits=st.booleans())
def test_the_null_is_that_of_every_permutation_outside(small_taxonomy, seed, knows_all, with_logits):
    tree, labels, ((_, before), (_, after)) = random_case(
        small_taxonomy, seed, with_logits=with_logits, knows_all=knows_all
    )
    names = [synset.name for synset in small_taxonomy.synsets]
    for name in ("hen", "bird", "thing"):
        node = names.index(name)
        distance = distances_from(small_taxonomy, node)[small_taxonomy.classes]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hsae.interventions.figures._shuffles", every_shuffle)
            found = figures(before, after, Target(node, distance, labels), tree, n_shuffles=1, seed=0)
        members = tree.inside[:, node] > 0
        outside = [c for c in sorted(set(labels.tolist())) if not members[c]]
        places = [int(distance[c]) for c in outside]
        accuracy = [
            np.mean([(before.predicted[i] == c) * 1.0 - (after.predicted[i] == c) for i in np.flatnonzero(labels == c)])
            for c in outside
        ]
        odds = [slow_drop(before, after, node, members, labels, c) for c in outside]
        of_accuracy, p_of_accuracy = slow_null(places, accuracy)
        of_odds, p_of_odds = slow_null(places, odds)
        assert found.distance_p == pytest.approx(p_of_odds if with_logits else p_of_accuracy, nan_ok=True)
        for point in found.curve:
            none = (np.nan, np.nan)  # the target's own classes stay where they are
            expected = [null[point.distance] if point.distance else none for null in (of_accuracy, of_odds)]
            for null, quantiles in zip((point.accuracy_null, point.log_odds_null), expected, strict=True):
                assert null == pytest.approx(quantiles, nan_ok=True)
