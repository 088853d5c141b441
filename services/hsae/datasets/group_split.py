"""Assigns whole groups of images to parts, so that the parts come as close as possible to their shares."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Float64, Int8, Int64

_MOST_TRIED = 60_000  # assignments; of more groups than that allows, groups are placed one by one
_MOST_SWEEPS = 20


def assign_groups(
    whole: Int64[np.ndarray, "n_groups"],
    group: Int64[np.ndarray, "n_pairs"],
    of_class: Int64[np.ndarray, "n_pairs"],
    n_both: Int64[np.ndarray, "n_pairs"],
    shares: Sequence[Fraction],
) -> Int8[np.ndarray, "n_groups"]:
    """The part of every group; every part gets a group if there are enough of them.

    Ours: the assignment with the least `sum_p [(n_p - s_p N)^2 + sum_c (n_pc - s_p n_c)^2]`, where `n_p` images of
    which `n_pc` of class `c` are in part `p` of share `s_p`: the first term holds the shares of all images, the second
    those of every class. All assignments are tried while there are at most 60,000 of them (10 groups); of equal ones
    the first counts, in the order of the groups. More groups are placed one by one, the largest first, each where the
    sum is then least, and moved singly, at most 20 times each, as long as that lowers the sum.

    Args:
        whole: images of every group, in the order that decides between equal assignments.
        group: the group of every pair of group and class that share images, ascending.
        of_class: the class of the pair.
        n_both: their common images.
        shares: of the parts.
    """
    n_groups, n_parts = len(whole), len(shares)
    n_features = 1 + (int(of_class.max()) + 1 if len(of_class) else 0)
    scale = math.lcm(*(share.denominator for share in shares))  # whole numbers, which are summed exactly
    starts = np.searchsorted(group, np.arange(n_groups + 1))
    features = [
        (
            np.concatenate(([0], of_class[start:end] + 1)),
            np.concatenate(([whole[number]], n_both[start:end])).astype(np.float64) * scale,
        )
        for number, (start, end) in enumerate(itertools.pairwise(starts.tolist()))
    ]
    total = np.zeros(n_features)
    for at, amount in features:
        total[at] += amount
    targets = np.array([total / scale * float(share * scale) for share in shares])
    if n_parts**n_groups <= _MOST_TRIED:
        return _best_of_all(features, targets)
    return _one_by_one(features, targets)


_Features = Sequence[tuple[Int64[np.ndarray, "n"], Float64[np.ndarray, "n"]]]


def _best_of_all(features: _Features, targets: Float64[np.ndarray, "parts n"]) -> Int8[np.ndarray, "n_groups"]:
    n_groups, n_parts = len(features), len(targets)
    amounts = np.zeros((n_groups, targets.shape[1]))
    for number, (at, amount) in enumerate(features):
        amounts[number, at] = amount
    together, aimed = amounts @ amounts.T, amounts @ targets.T  # whole numbers: exact in any order
    tried = np.array(list(itertools.product(range(n_parts), repeat=n_groups)), np.int8)
    cost = np.zeros(len(tried))
    for part in range(n_parts):
        is_in = (tried == part).astype(np.float64)
        cost += ((is_in @ together) * is_in).sum(axis=1) - 2 * is_in @ aimed[:, part]
        if n_groups >= n_parts:
            cost[~is_in.any(axis=1)] = math.inf
    return np.asarray(tried[np.argmin(cost)])


def _one_by_one(features: _Features, targets: Float64[np.ndarray, "parts n"]) -> Int8[np.ndarray, "n_groups"]:
    n_groups, n_parts = len(features), len(targets)
    lacking = targets.copy()
    part = np.full(n_groups, -1, np.int8)
    largest_first = sorted(range(n_groups), key=lambda number: -features[number][1][0])

    def nearest(number: int) -> int:
        """The part whose sum of squares grows least by the group."""
        at, amount = features[number]
        return int(np.argmin(((amount - 2 * lacking[:, at]) * amount).sum(axis=1)))

    def move(number: int, to: int) -> None:
        at, amount = features[number]
        if part[number] >= 0:
            lacking[part[number], at] += amount
        lacking[to, at] -= amount
        part[number] = to

    for number in largest_first:
        move(number, nearest(number))
    for empty in np.flatnonzero(np.bincount(part, minlength=n_parts) == 0).tolist():
        crowded = int(np.bincount(part, minlength=n_parts).argmax())
        move(next(number for number in reversed(largest_first) if part[number] == crowded), empty)
    for _ in range(_MOST_SWEEPS):
        has_moved = False
        for number in largest_first:
            at, amount = features[number]
            before = int(part[number])
            if (part == before).sum() == 1:
                continue  # no part becomes empty
            lacking[before, at] += amount
            to = nearest(number)
            lacking[before, at] -= amount
            if to != before:
                has_moved = True
                move(number, to)
        if not has_moved:
            break
    return part
