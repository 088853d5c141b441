"""The taxonomy as a figure: a tree of a DAG, in the colours of the rows."""

import json

import plotly.graph_objects as go
import pytest
from tests.report.charts.rows import ANALYSES, EVIL, NODES, SCORES

from hsae.report.charts import taxonomy_chart
from hsae.report.charts.theme import UNKNOWN, viridis

CHART = taxonomy_chart(NODES, SCORES, ANALYSES)
PLACE = {node: place for place, node in enumerate(CHART.ids)}


def test_the_tree():
    parents = {CHART.labels[PLACE[node]]: parent for node, parent in zip(CHART.ids, CHART.parents, strict=True)}
    assert parents == {
        "entity": "", "animal": "1", "pet": "1", "cat": "4",
        "dog": "4",  # under pet, of fewer classes than animal
        "&lt;script&gt;alert(1)&lt;/script&gt;": "3",
    }  # fmt: skip
    assert [CHART.values[PLACE[node]] for node in ("1", "3", "4", "5", "6", "7")] == [0, 0, 0, 1, 1, 1]
    for place, parent in enumerate(CHART.parents):
        assert parent == "" or PLACE[parent] < place, "parents come before children"


def test_a_node_with_the_same_classes_as_its_child_is_drawn_as_that():
    assert "2" not in CHART.ids
    assert CHART.frames[0].customdata[PLACE["3"]][:2] == [
        "animal.n.01", "4 classes, 10 images (the same as organism.n.01)",
    ]  # fmt: skip


def test_frames_have_the_values_of_the_rows():
    assert [(frame.sae, frame.layer) for frame in CHART.frames] == [
        (row["sae"], row["layer"]) for row in ANALYSES
    ]  # fmt: skip
    first, second = CHART.frames[:2]
    assert first.colours[PLACE["3"]] == viridis(0.4)
    assert second.colours[PLACE["3"]] == viridis(0.6), "one scale for all layers"
    assert second.colours[PLACE["4"]] == viridis(0), "worse than a latent that always fires"
    assert first.colours[PLACE["1"]] == first.colours[PLACE["7"]] == UNKNOWN
    assert second.customdata[PLACE["3"]][2:] == [
        "0.60", "0.10", "0.25 (exemplars)", "q 0.010, latent 203, 9 scored images",
    ]  # fmt: skip
    assert first.customdata[PLACE["1"]][2:5] == ["not defined", "–", "–"]


@pytest.mark.parametrize("kind", ["sunburst", "icicle"])
def test_the_figure_has_a_slider_over_the_layers_of_one_sae(kind):
    figure = CHART.figure("topk SAE", kind=kind)
    go.Figure(figure)
    assert EVIL not in json.dumps(figure)
    assert figure["data"][0]["marker"]["colors"] == CHART.frames[1].colours, "the last layer"
    (slider,) = figure["layout"]["sliders"]
    assert [step["label"] for step in slider["steps"]] == ["0", "1"]
    assert slider["steps"][0]["args"][0]["marker.colors"] == [CHART.frames[0].colours]
    assert "sliders" not in CHART.figure("topk SAE", slider=False)["layout"]


def test_a_deep_chain_needs_no_stack():
    chain = [dict(NODES[0], synset_id=n, hypernym_ids=[n - 1] if n else [], n_classes=5000 - n) for n in range(3000)]
    assert len(taxonomy_chart(chain, [], ANALYSES[:1]).ids) == 3000
