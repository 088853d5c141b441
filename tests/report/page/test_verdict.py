"""The verdict in words, and what was not measured."""

from typing import Any

import pytest

from hsae.report.page import Trend, verdict_text
from hsae.report.page.unmeasured import unmeasured_text
from hsae.report.page.verdict import beyond_chance, known_text

RISES = Trend("topk SAE", 0.0473, 0.011, 0.084, 6)
UNCLEAR = Trend("relu SAE", 0.027, -0.013, 0.067, 6)
FALLS = Trend("relu SAE", -0.03, -0.05, -0.01, 6)


@pytest.mark.parametrize(
    ("trends", "answer", "words"),
    [
        ([RISES], "Yes", ["rises with depth (+0.047 bits per layer, 95\u00a0% interval 0.011 to 0.084)"]),
        ([RISES, UNCLEAR], "Yes for the topk SAE; not shown for the relu SAE",
         ["; in the relu SAE it is not shown to change with depth (+0.027", "interval −0.013 to 0.067"]),
        ([UNCLEAR], "Not shown", ["not shown to change"]),
        ([FALLS], "No, it falls", ["falls with depth (−0.030"]),
        ([RISES, RISES._replace(sae="relu SAE")], "Yes", ["In the topk SAE", "in the relu SAE it rises"]),
        ([RISES._replace(slope=None, ci_low=None, ci_high=None)], "Not tested", ["no slope with an interval"]),
        ([RISES._replace(n_layers=1)], "Not tested", ["One layer alone has no trend"]),
        ([], "Not tested", ["needs a comparison of several layers"]),
    ],
)  # fmt: skip
def test_verdict(trends, answer, words):
    said, sentence = verdict_text(trends, 0.95)
    assert said == answer
    for word in words:
        assert word in sentence
    assert sentence[0].isupper()
    assert sentence.endswith(".")


def point(value, baseline=None, tree_q975=None, sae="topk SAE"):
    return {"sae": sae, "value": value, "baseline": baseline, "tree_q975": tree_q975}


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ([point(0.5, 0.4, 0.1), point(0.6, 0.7, 0.1)],
         "The coherence of the topk SAE is above 97.5\u00a0% of shuffled taxonomies in all 2 layers and above the best"
         " baseline in 1 of 2 layers."),
        ([point(0.5, 0.9)], "The coherence of the topk SAE is above the best baseline in none of 1 layer."),
        ([point(0.5), point(None, 0.1, 0.1), point(1.0, 0.1, 0.1, sae="another")], ""),
    ],
)  # fmt: skip
def test_beyond_chance(points, sentence):
    assert beyond_chance(points, "topk SAE") == sentence


def test_known_nodes_in_words():
    found = {"synset": "dog.n.01", "f1_adjusted": 0.8, "shuffled": 0.1, "is_found": True}
    missed = found | {"synset": "cat.n.01", "is_found": False}
    assert known_text([missed, found], 9, "topk SAE").endswith("by adjusted F1: dog (0.80; shuffled tree 0.10).")
    assert "finds any of 9 inner nodes (with enough images)" in known_text([missed], 9, "topk SAE")
    assert known_text([], 0, "topk SAE") == ""


ALL: dict[str, Any] = {
    "layer": 3, "holdout_l0": 16.0, "has_intervals": True, "has_bare_purity": False, "has_tree_shuffles": True,
    "has_probe": True, "has_stability": True, "probe_undefined": None, "n_lch_eligible": 5, "has_maps": True,
    "bases": ["exemplar", "kmeans", "pca", "random", "neuron", "untrained", "shuffled_taxonomy"],
}  # fmt: skip


def test_nothing_is_missing():
    assert unmeasured_text([ALL], in_sample=False, skipped=[]) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"holdout_l0": None}, "the SAEs were trained on every row in layer 5."),
        ({"has_intervals": False}, "Intervals: no classes were deleted (`n_replicates`) in layer 5."),
        (
            {"has_bare_purity": True},
            "fewer than 100 classes have two images among the strongest of a latent in layer 5.",
        ),
        ({"has_tree_shuffles": False}, "(`n_tree_shuffles`) in layer 5."),
        ({"has_probe": False}, "Probes of the raw activations: there are none in layer 5."),
        ({"probe_undefined": "no image trains"}, "Probes of the raw activations: no image trains (in layer 5)."),
        ({"n_lch_eligible": 0}, "LCH excess: no latent fires on 16 scored images of two classes or more in layer 5."),
        ({"has_maps": False}, "(`submit` as before with `--maps 32` makes them and reuses the rest) in layer 5."),
        ({"bases": ["neuron", "shuffled_taxonomy"]}, "The baseline k-means was not asked for in layer 5."),
        ({"bases": ALL["bases"][:-1]}, "Nodes under a shuffled taxonomy: none was scored (`n_shuffles`) in layer 5."),
    ],
)
def test_each_gap_is_said_with_its_layers(change, sentence):
    said = unmeasured_text([ALL, ALL | {"layer": 5} | change], in_sample=False, skipped=[])
    assert any(one.endswith(sentence) for one in said), said


def test_gaps_of_the_whole_study():
    missing = ALL | {"has_probe": False, "has_stability": False}
    said = " ".join(unmeasured_text([missing, missing], in_sample=True, skipped=[("birds", 3, 1000)]))
    for words in ("there are none in any analysis.", "one seed", "no split", "3 of 1,000 images of birds"):
        assert words in said
