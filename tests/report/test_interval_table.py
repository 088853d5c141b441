"""A comparison's rows beside each other, with marks."""

from hsae.report.interval_table import beside_differences, between_saes, interval, is_bare_purity


def score(analysis, layer, basis, value, low=0.0, high=1.0):
    return {"analysis_id": analysis, "layer": layer, "sae": f"sae {analysis}", "basis": basis, "value": value,
            "ci_low": low, "ci_high": high, "n": 9}  # fmt: skip


def difference(one, layer, other, other_layer, other_basis, value, is_apart):
    return {"analysis_id": one, "layer": layer, "sae": f"sae {one}", "other_analysis_id": other,
            "other_layer": other_layer, "other_sae": f"sae {other}", "other_basis": other_basis, "value": value,
            "ci_low": value and value - 0.1, "ci_high": value and value + 0.1, "n": 9,
            "is_apart": is_apart}  # fmt: skip


SCORES = [score(1, 0, "sae", 0.5, 0.25, 0.75), score(1, 0, "neuron", 0.25), score(2, 3, "sae", None, None, None)]
DIFFERENCES = [
    difference(1, 0, 1, 0, "neuron", 0.25, True),
    difference(1, 0, 1, 0, "a_new_control", -0.05, False),
    difference(2, 3, 2, 3, "neuron", None, False),
    difference(2, 3, 1, 0, "sae", 0.125, True),
    difference(3, 3, 2, 3, "sae", -0.5, True),
]


def test_an_analysis_has_its_differences_beside_it():
    first, second = beside_differences(SCORES, DIFFERENCES[:-1])
    assert first == {
        "layer": 0, "sae": "sae 1", "n": 9, "value": 0.5, "interval": "[0.250, 0.750]", "minus_neuron": "+0.250*",
        "minus_a_new_control": "-0.050 ",
    }  # fmt: skip
    assert (second["value"], second["interval"], second["minus_neuron"]) == (None, None, None)
    assert second["minus_layer_before"] == "+0.125*"


def test_a_mean_purity_that_is_known_without_an_interval():
    bare, undefined, whole = (
        score(1, 0, "sae", *values) | {"metric": "purity_mean"}
        for values in ((0.5, None, None), (None, None, None), (0.5, 0.25, 0.75))
    )
    assert is_bare_purity([undefined, whole, bare])
    assert not is_bare_purity([undefined, whole])
    assert not is_bare_purity([bare | {"metric": "coherence_excess"}, bare | {"basis": "neuron"}])


def test_saes_of_one_layer():
    assert between_saes(DIFFERENCES) == [
        {"layer": 3, "sae": "sae 3", "other_sae": "sae 2", "difference": "-0.500!",
         "interval": interval(DIFFERENCES[-1]), "n": 9}
    ]  # fmt: skip
