"""Rows of contrasts against plain loops: a node's latents beside each control, at equal forgetting, and over nodes."""

import statistics
from itertools import pairwise, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsae.interventions.config import InterveneSettings
from hsae.interventions.figures import Figures, Mean
from hsae.pipeline.stages.interventions.arms import Arm
from hsae.pipeline.stages.interventions.rows import EditRows, Results, contrast_rows

NAN = float("nan")
IDS = np.array([70, 71, 72, 73, 74])  # of the catalog
DOSES = (0.0, 0.3, 0.6)
TENTHS = [tenth / 10 for tenth in range(-2, 8)]
NUMBERS = ("specificity_difference", "equal_forgetting", "cost", "cost_control")


def scene_of(nodes) -> Any:
    """What contrasts read of a scene: which nodes there are."""
    return SimpleNamespace(nodes=nodes)


def slow_mean(values):
    known = [value for value in values if not np.isnan(value)]
    return statistics.mean(known) if known else NAN


def slow_cost(doses, wanted):
    """Along the line from dose to dose, from no edit on; of doses that forget the same the dearest stands last."""
    points = sorted([(0.0, 0.0)] + [(dose["forgetting"], dose["before"] - dose["after"]) for dose in doses])
    cost = NAN
    for (x, y), (beyond, there) in pairwise(points):
        if x <= wanted < beyond:
            cost = y + (there - y) * (wanted - x) / (beyond - x)
    return points[-1][1] if wanted == points[-1][0] else cost


def slow_contrast(own, others):
    """Of one node.

    Args:
        own: of the latents, a dict for every dose, the first dose first: specificity, forgetting, and the accuracy
            outside before and after.
        others: the same of every draw of the control.
    """
    least = [slow_mean([draw[0]["specificity"] for draw in draws]) for draws in ([own], others)]
    if any(np.isnan(dose["forgetting"]) for dose in own):  # nothing was known before: nothing can be forgotten
        return {
            "specificity_difference": least[0] - least[1],
            "equal_forgetting": NAN,
            "cost": NAN,
            "cost_control": NAN,
        }
    greatest = [max(dose["forgetting"] for dose in draw) for draw in (own, *others)]
    equal = min(greatest[0], slow_mean(greatest[1:]))
    equal = next((dose for dose in TENTHS if abs(equal - dose) < 1e-9), equal)
    found = {"specificity_difference": least[0] - least[1], "equal_forgetting": equal, "cost": NAN, "cost_control": NAN}
    if equal > 0:
        reaching = [draw for draw, most in zip(others, greatest[1:], strict=True) if most >= equal]
        found |= {
            "cost": slow_cost(own, equal), "cost_control": slow_mean([slow_cost(draw, equal) for draw in reaching])
        }  # fmt: skip
    return found


def slow_p(differences):
    known = [value for value in differences if not np.isnan(value)]
    if not known:
        return NAN
    sums = [abs(sum(s * v for s, v in zip(signs, known, strict=True))) for signs in product((1, -1), repeat=len(known))]
    return sum(one >= sums[0] - 1e-9 for one in sums) / len(sums)  # the first signs are the true ones


def figures_of(dose):
    unknown = Mean(NAN, NAN, NAN)
    outside = (dose["before"], dose["after"])
    return Figures(
        n_inside=1, n_outside=1, inside=(1, 1), outside=outside, log_odds_inside=(0, 0), log_odds_outside=(0, 0),
        specificity=Mean(dose["specificity"], NAN, NAN), specificity_log_odds=unknown, forgetting=dose["forgetting"],
        retention=NAN, distance_correlation=NAN, distance_p=NAN, curve=(),
    )  # fmt: skip


def random_doses(rng, *, is_known):
    """Multiples of a tenth, with ties, and some below 0: of one arm at one node."""
    return [
        {
            "specificity": rng.integers(-5, 6) / 10 if is_known else NAN,
            "forgetting": rng.integers(-2, 8) / 10 if is_known else NAN,
            "before": 0.9,
            "after": 0.9 - rng.integers(-2, 6) / 10,
        }
        for _ in DOSES
    ]


@given(seed=st.integers(0, 10_000), n_nodes=st.integers(0, 4))
def test_contrasts_are_those_of_a_loop(seed, n_nodes):
    rng = np.random.default_rng(seed)
    nodes = tuple(rng.permutation(len(IDS))[:n_nodes].tolist())
    settings = InterveneSettings(
        nodes=tuple(f"n{node}" for node in nodes), doses=DOSES, n_random=3, n_shuffles=9, readouts=("probe", "knn"),
        controls=("random", "leace"), seed=seed,
    )  # fmt: skip
    draws = {"latents": 1, "random": 3, "leace": 1}
    given_doses = {}
    for readout, node in product(settings.readouts, nodes):
        is_known = rng.random() < 0.8  # nothing is lost where nothing was right before, in no arm
        for arm, n_draws in draws.items():
            given_doses[readout, node, arm] = [random_doses(rng, is_known=is_known) for _ in range(n_draws)]
    arms, of_edits = [], EditRows([], [], [], {})
    for node, (arm, n_draws) in product(nodes, draws.items()):
        for draw, (place, dose) in product(range(n_draws), enumerate(DOSES)):
            for readout in settings.readouts:
                figures = figures_of(given_doses[readout, node, arm][draw][place])
                of_edits.figures[len(arms), readout] = figures
            arms.append(Arm(node, arm, draw, dose, None, None))
    found = contrast_rows(Results(settings, scene_of(nodes), arms, None, IDS), of_edits)

    expected = []
    for readout, control in product(settings.readouts, settings.controls if nodes else ()):
        where = {"readout": readout, "control": control}
        each = [
            slow_contrast(given_doses[readout, node, "latents"][0], given_doses[readout, node, control])
            for node in nodes
        ]
        expected += [
            where | {"synset_id": IDS[node], "n_nodes": 1} | row for node, row in zip(nodes, each, strict=True)
        ]
        expected.append(
            where
            | {"synset_id": None, "n_nodes": n_nodes}
            | {name: slow_mean([row[name] for row in each]) for name in NUMBERS}
            | {
                "specificity_p": slow_p([row["specificity_difference"] for row in each]),
                "cost_p": slow_p([row["cost"] - row["cost_control"] for row in each]),
            }
        )
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, nan_ok=True, abs=1e-12)


def test_draws_that_forget_the_same_all_reach_their_mean():
    """As numbers: (0.8 + 0.8 + 0.8) / 3 is greater than 0.8."""
    settings = InterveneSettings(nodes=("a",), doses=(0.0,), n_random=3, readouts=("knn",), controls=("random",))
    dose = {"specificity": 0.5, "forgetting": 0.8, "before": 0.9, "after": 0.6}
    arms = [Arm(0, "latents", 0, 0.0, None, None), *(Arm(0, "random", draw, 0.0, None, None) for draw in range(3))]
    of_edits = EditRows([], [], [], {(0, "knn"): figures_of(dose | {"forgetting": 0.9, "after": 0.45})})
    of_edits.figures |= {(number, "knn"): figures_of(dose) for number in (1, 2, 3)}
    row, _ = contrast_rows(Results(settings, scene_of((0,)), arms, None, IDS), of_edits)
    assert [row[name] for name in NUMBERS[1:]] == pytest.approx([0.8, 0.4, 0.3])
