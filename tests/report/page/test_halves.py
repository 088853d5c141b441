"""The means of two halves, against the same by hand."""

import math

import pytest

from hsae.report.page import Drawn, averaged

METRIC = "coherence_excess"


def layer(number, **values):
    return {
        "analysis_id": number, "layer": 3, "sae": f"topk half {number}", "coherence_excess": 9.0, "n_latents": 64,
        "basis": "sae", "is_odd": True, **values,
    }  # fmt: skip


def node(number, **values):
    return {
        "analysis_id": number, "synset_id": 7, "latent": number * 10, "f1": 0.5, "f1_adjusted": 0.4, "q_node": 0.01,
        "n_images": 4, "n_fire": 2, "is_distinct": True, "baseline": "pca", "f1_adjusted_baseline": 0.2,
        "f1_adjusted_shuffled": 0.1, **values,
    }  # fmt: skip


def analysis(number, fold, sae="topk"):
    return {"analysis_id": number, "layer": 3, "sae": sae, "split": {"fold": fold} if fold else {}}


def halves(**changes):
    """Analyses 1 and 2 are the halves of one SAE, 3 is one that the comparison does not have."""
    single = {
        "analyses": [analysis(2, 1), analysis(1, 0), analysis(3, 0)],
        "layers": [layer(2, fvu=0.4, probe_accuracy=0.5), layer(1, fvu=0.2, probe_accuracy=None), layer(3, fvu=0.9)],
        "intervals": {(1, "sae", METRIC): (5.0, 4.0, 6.0)},
        "shuffled": {(1, METRIC): (0.1, 0.3), (2, METRIC): (0.3, 0.5), (3, METRIC): (9.0, 9.0)},
        "scores": [node(1), node(2, f1_adjusted=0.6, q_node=0.03, n_images=3), node(3)],
    }
    comparison = [
        {"analysis_id": 1, "basis": "sae", "metric": METRIC, "value": 1.5, "ci_low": 1.0, "ci_high": 2.0},
        {"analysis_id": 1, "basis": "pca", "metric": METRIC, "value": 0.5, "ci_low": 0.4, "ci_high": 0.6},
    ]
    return averaged(Drawn(**(single | changes)), {1: 1, 2: 1}, {1: "topk SAE"}, comparison)


def test_one_line_for_each_sae_with_the_values_of_the_comparison():
    drawn = halves()
    assert drawn.is_averaged
    assert [(row["analysis_id"], row["sae"]) for row in drawn.analyses] == [(1, "topk SAE")]
    assert drawn.intervals[1, "sae", METRIC] == (1.5, 1.0, 2.0)
    assert drawn.intervals[1, "pca", METRIC] == (0.5, 0.4, 0.6)
    assert drawn.shuffled == {(1, METRIC): pytest.approx((0.2, 0.4))}
    (row,) = drawn.layers
    assert (row["coherence_excess"], row["coherence_excess_low"], row["coherence_excess_high"]) == (1.5, 1.0, 2.0)
    assert row["fvu"] == pytest.approx(0.3)
    assert row["probe_accuracy"] == 0.5, "of the half that has one"
    assert (row["n_latents"], row["is_odd"], row["basis"], row["sae"]) == (64, True, "sae", "topk SAE")


def test_a_node_has_the_mean_f1_and_the_q_of_the_less_sure_half():
    (row,) = halves().scores
    assert (row["analysis_id"], row["latent"]) == (1, "10 and 20")
    assert row["f1_adjusted"] == pytest.approx(0.5)
    assert row["f1_adjusted_baseline"] == pytest.approx(0.2)
    assert (row["q_node"], row["n_images"], row["baseline"]) == (0.03, 7, "pca")


@pytest.mark.parametrize(
    ("second", "name", "expected"),
    [
        ({"f1_adjusted": None}, "f1_adjusted", 0.4),
        ({"q_node": None}, "q_node", None),
        ({"baseline": "kmeans"}, "baseline", "of each half"),
        ({"is_distinct": False}, "is_distinct", True),
    ],
)
def test_what_one_half_lacks(second, name, expected):
    (row,) = halves(scores=[node(1), node(2, **second)]).scores
    assert row[name] == expected


def test_a_node_of_one_half_alone_counts_its_images_once():
    (row,) = halves(scores=[node(2)]).scores
    assert (row["latent"], row["n_images"], row["f1_adjusted"]) == ("20", 4, 0.4)


def test_seeds_of_one_half_score_the_same_images():
    analyses = [analysis(1, 0), analysis(2, 1), analysis(3, 0)]
    scores = [node(1), node(2, n_images=3), node(3)]
    single = Drawn(analyses, [], {}, {}, scores)
    (row,) = averaged(single, {1: 1, 2: 1, 3: 1}, {1: "topk SAE, 2 seeds"}, []).scores
    assert row["n_images"] == 7
    assert row["latent"] == "10 and 20 and 30"


def test_nothing_is_no_number():
    (row,) = halves(layers=[layer(1, fvu=None), layer(2, fvu=None)]).layers
    assert row["fvu"] is None
    assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())
