"""The taxonomy in the colours of what an edit took away."""

import json

import plotly.graph_objects as go
from tests.report.charts.rows import EVIL, NODES

from hsae.report.charts import edit_about, edit_figure, edit_title, taxonomy_chart
from hsae.report.charts.edits import DIVERGING, colour
from hsae.report.charts.theme import UNKNOWN

EDIT = {
    "synset_id": 4, "target": "pet.n.01", "unit": "log_odds", "dose": 0.0, "edit": "scale", "n_latents": 16,
    "layers": [8], "sae_kind": "topk",
}  # fmt: skip
TAKEN = {
    4: {"drop": 2.0, "n_images": 5, "distance": 0},
    5: {"drop": 1.0, "n_images": 3, "distance": 0},
    3: {"drop": -0.5, "n_images": 9, "distance": 1},
}


def test_boxes_have_the_colours_of_what_was_lost():
    figure = edit_figure(NODES, EDIT, TAKEN)
    shape, bar = figure["data"]
    assert shape["ids"] == taxonomy_chart(NODES, [], []).ids
    of = dict(zip(shape["ids"], shape["marker"]["colors"], strict=True))
    assert [of["4"], of["5"], of["3"], of["1"]] == [DIVERGING[-1], colour(0.5), colour(-0.25), UNKNOWN]
    assert (bar["marker"]["cmin"], bar["marker"]["cmax"]) == (-2.0, 2.0)
    about = dict(zip(shape["ids"], shape["customdata"], strict=True))
    assert about["4"] == ["pet.n.01", "log-odds lost: 2.00 on 5 images, 0 edges away"]
    assert about["1"][1] == "not defined"
    marked = [label for label in shape["labels"] if label.startswith("✕")]
    assert marked == ["✕ pet"]
    assert EVIL not in json.dumps(figure)
    go.Figure(figure)


def test_colours_are_symmetric_and_bounded():
    assert [colour(value) for value in (-9, -1, 0, 1, 9)] == [DIVERGING[place] for place in (0, 0, 3, -1, -1)]
    assert edit_figure(NODES, EDIT, {})["data"][0]["marker"]["colors"][0] == UNKNOWN


FOUND = {
    "readout": "probe", "specificity": 1.534, "low": 0.5, "high": 2.0, "n_random": 4, "random": -0.05,
    "random_least": -0.13, "random_greatest": 0.03, "leace": 0.8, "n_edits": 12,
}  # fmt: skip


def test_numbers_stand_beside_their_nulls():
    assert edit_about(EDIT | FOUND) == (
        "By the probe: specificity 1.53 in log-odds (95 %: 0.50 to 2.00), beside 4 draws of random latents -0.05"
        " (-0.13 to 0.03) and LEACE 0.80. Chosen as the greatest of 12 edits of this node, of all layers and SAEs, on"
        " the scored images: that flatters it."
    )
    without = {"low": None, "high": None, "n_random": 0, "random": None, "leace": None, "n_edits": 1}
    assert edit_about(EDIT | FOUND | without | {"unit": "accuracy"}) == (
        "By the probe: specificity 1.53 in accuracy (no interval), beside no random latents and no LEACE. The one edit"
        " of this node."
    )
    assert "one draw of random latents -0.05 and LEACE" in edit_about(EDIT | FOUND | {"n_random": 1})


def test_titles_say_what_was_done():
    assert edit_title(EDIT) == "16 latents of pet.n.01 taken away, layer 8, topk"
    assert edit_title(EDIT | {"layers": [3, 8]}) == "16 latents of pet.n.01 taken away, layers 3, 8, topk"
    assert "1 latent of pet.n.01 times 0.5" in edit_title(EDIT | {"dose": 0.5, "n_latents": 1})
    assert "added to, dose -2" in edit_title(EDIT | {"edit": "add", "dose": -2.0})
