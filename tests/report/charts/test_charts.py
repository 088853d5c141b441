"""Figures say what the rows say, and draw nothing else."""

import json

import plotly.graph_objects as go
import pytest
from tests.report.charts.rows import ANALYSES, EVIL, INTERVALS, NODES, SCORES, SHUFFLED, score

from hsae.report.charts import (
    MEASURES,
    ActivationHistogram,
    headline_figure,
    headline_points,
    histogram_figure,
    known_nodes,
    known_nodes_figure,
    pareto_figure,
)
from hsae.report.charts.names import distinct_names, short_name
from hsae.report.charts.pareto import is_on_front, mean_points
from hsae.report.charts.theme import VIRIDIS, viridis

POINTS = headline_points(ANALYSES, INTERVALS, SHUFFLED, "coherence_excess")
ROWS = [
    {"sae": "topk SAE", "layer": 0, "holdout_l0": 16.0, "fvu": 0.10, "coherence_excess": 0.3},
    {"sae": "topk SAE", "layer": 1, "holdout_l0": 16.0, "fvu": 0.20, "coherence_excess": 0.5},
    {"sae": "relu SAE", "layer": 0, "holdout_l0": 18.0, "fvu": 0.30, "coherence_excess": 0.8},
    {"sae": "relu SAE", "layer": 1, "holdout_l0": 20.0, "fvu": 0.30, "coherence_excess": 0.4},
    {"sae": "relu SAE", "layer": 2, "holdout_l0": 90.0, "fvu": 0.90, "coherence_excess": 0.0},
    {"sae": "no held-out rows", "layer": 0, "holdout_l0": None, "fvu": None, "coherence_excess": 0.1},
]


def valid(figure: dict) -> dict:
    """The figure, once Plotly has checked every name and value in it and a browser could read it."""
    go.Figure(figure)
    json.dumps(figure, allow_nan=False)
    assert EVIL not in json.dumps([trace.get("name") for trace in figure["data"]])
    return figure


def trace(figure: dict, name: str) -> dict:
    (found,) = [one for one in figure["data"] if one.get("name") == name]
    return found


def test_headline_points_have_the_best_baseline_of_their_own_layer():
    assert [(p["sae"], p["layer"], p["value"], p["low"], p["high"]) for p in POINTS] == [
        ("topk SAE", 0, 0.3, 0.2, 0.4), ("topk SAE", 1, 0.5, 0.35, 0.65), (EVIL, 0, 0.25, None, None),
        (EVIL, 1, None, None, None),
    ]  # fmt: skip
    assert [(p["baseline"], p["baseline_name"]) for p in POINTS[:2]] == [(0.6, "exemplars"), (0.45, "k-means")]
    assert [(p["tree"], p["tree_q975"]) for p in POINTS] == [(0.01, 0.07), (-0.01, 0.08), (None, None), (None, None)]


def test_headline_figure_draws_one_sae_until_asked():
    figure = valid(headline_figure(POINTS, MEASURES["coherence"], shown="topk SAE"))
    assert (trace(figure, "topk SAE")["x"], trace(figure, "topk SAE")["y"]) == ([0, 1], [0.3, 0.5])
    assert trace(figure, "topk SAE interval")["y"] == [0.4, 0.65, 0.35, 0.2], "up along the upper ends, and back"
    assert trace(figure, "best baseline")["y"] == [0.6, 0.45]
    assert trace(figure, "best baseline")["customdata"] == ["exemplars", "k-means"]
    assert trace(figure, "shuffled tree")["y"] == [0.01, -0.01]
    assert trace(figure, "shuffled tree to 97.5 %")["y"] == [0.07, 0.08, -0.01, 0.01]
    drawn = {one["name"] for one in figure["data"] if one["visible"] is True}
    assert not any("script" in name for name in drawn)
    others = [one for one in figure["data"] if "script" in one["name"]]
    assert {one["visible"] for one in others} == {"legendonly"}
    assert {one["legendgroup"] for one in others} == {EVIL}, "one click shows the SAE with its controls"


def test_headline_figure_of_all_saes_hides_their_controls():
    figure = valid(headline_figure(POINTS, MEASURES["coherence"]))
    drawn = {one["name"] for one in figure["data"] if one["visible"] is True}
    assert {"topk SAE", "topk SAE interval"} < drawn
    assert not any("baseline" in name or "tree" in name for name in drawn)


def test_known_nodes_stand_beside_controls_with_the_same_choice_of_layers():
    layers = {1: 0, 2: 1}
    rows, n_nodes = known_nodes([row for row in SCORES if row["analysis_id"] in layers], NODES, layers)
    assert [row["synset"] for row in rows] == ["animal.n.01", "pet.n.01"], "dog is a single class"
    assert n_nodes == 2
    animal = rows[0]
    assert (animal["f1_adjusted"], animal["layer"], animal["latent"]) == (0.6, 1, 203)
    assert (animal["baseline"], animal["baseline_name"], animal["shuffled"]) == (0.3, "k-means", 0.1)
    assert (animal["q"], animal["is_found"]) == (0.02, True), "twice the node's q, for two layers"
    assert (rows[1]["q"], rows[1]["is_found"]) == (1.0, False)
    figure = valid(known_nodes_figure(rows, "topk SAE"))
    assert trace(figure, "topk SAE")["x"] == [-0.2, 0.6]
    assert trace(figure, "topk SAE")["y"] == ["pet", "animal"]
    assert trace(figure, "topk SAE")["marker"]["symbol"] == ["circle-open", "circle"]
    assert trace(figure, "best baseline")["x"] == [0.3, 0.3]
    assert trace(figure, "shuffled tree")["x"] == [0.05, 0.1]


@pytest.mark.parametrize("change", [{"n_images": 4}, {"is_distinct": False}, {"f1_adjusted": None}])
def test_nodes_that_say_nothing_are_not_known(change):
    assert known_nodes([score(1, 3, 0.9) | change], NODES, {1: 0}) == ([], 0)


def test_a_latent_is_shown_once():
    rows, n_nodes = known_nodes([score(1, 3, 0.9, latent=5), score(1, 2, 0.8, latent=5)], NODES, {1: 0})
    assert ([row["synset"] for row in rows], n_nodes) == (["animal.n.01"], 2)


def test_pareto():
    figure = valid(pareto_figure(ROWS, "fvu"))
    small, large = (one for one in figure["data"] if one["name"] == "relu SAE")
    assert (small["x"], small["y"], small["customdata"]) == ([18.0, 20.0, 90.0], [0.3, 0.3, 0.9], [0, 1, 2])
    assert (large["x"], large["y"]) == ([19.0], [0.3]), "the mean of layers 0 and 1, which both SAEs have"
    assert large["marker"]["symbol"].endswith("-open"), "the other one is sparser and better"
    assert not any(one["name"] == "no held-out rows" for one in figure["data"])
    coherence = valid(pareto_figure(ROWS, "coherence_excess"))
    assert [one["marker"]["symbol"] for one in coherence["data"] if one["marker"]["size"] > 10] == ["circle", "square"]
    assert mean_points([{"sae": "a", "layer": 0}, {"sae": "b", "layer": 1}], "fvu") == {}
    assert is_on_front((1.0, 1.0), [(1.0, 1.0), (1.0, 1.0)], higher=False), "equals do not beat one another"


def test_histogram():
    histogram = ActivationHistogram(edges=[0.0, 1.0, 2.0], inside=[3, 4], outside=[5, 0], n_silent=7)
    figure = valid(histogram_figure(histogram, EVIL))
    inside, outside = figure["data"]
    assert (inside["x"], inside["y"], outside["y"]) == ([0.5, 1.5], [3, 4], [5, 0])
    assert inside["name"] == "under &lt;script&gt;alert(1)&lt;/script&gt;"


def test_names():
    assert [short_name(name) for name in ("guinea_pig.n.02", "Animalia/Chordata", "odd", "a/", "m.7")] == [
        "guinea pig", "Chordata", "odd", "a/", "m.7",
    ]  # fmt: skip
    assert distinct_names(["food.n.01", "food.n.02", "dog.n.01"]) == ["food.n.01", "food.n.02", "dog"]


def test_viridis():
    assert (viridis(-3), viridis(0), viridis(1), viridis(9)) == (VIRIDIS[0], VIRIDIS[0], VIRIDIS[-1], VIRIDIS[-1])
    assert viridis(1 / 3) == VIRIDIS[3]
