"""hsae-admin results study, over known scores."""

import json

import pytest
from tests.cli.refusals import assert_one_line
from tests.pipeline.stages.test_compare import enter_job
from tests.planted_scores import plant

from hsae.pipeline.execution.run import run_job


@pytest.fixture(scope="module")
def planted(make_service):
    """The planted analyses; study 1 has their comparison, study 2 is of a version that made none."""
    service = make_service()
    plant(service)
    assert run_job(enter_job(service), service.settings, "test") == "succeeded"
    return service


def test_json_has_every_quantity_and_difference(admin, planted):
    result = admin(planted, "results", "study", 1, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["comparison"]["config"] == {"seed": 4, "n_resamples": 200, "confidence": 0.9}
    assert found["comparison"]["dataset"] == "planted"
    best = {(row["layer"], row["basis"]): row for row in found["scores"] if row["metric"] == "best_f1_mean"}
    controls = {"exemplar", "neuron", "random", "shuffled_taxonomy"}
    assert set(best) == {(2, "sae"), (5, "sae"), (5, "shuffled_taxonomy"), *((2, control) for control in controls)}
    assert best[2, "sae"]["value"] == pytest.approx((0.5 + 0.6 + 0.9 + 0.8) / 5)
    assert best[2, "sae"]["sae"] == "relu SAE x8"
    assert {row["metric"] for row in found["scores"]} == {
        "best_f1_mean", "best_f1_inner_mean", "share_nodes_f1", "lch_height_mean", "coverage_mean",
        "monosemanticity_mean", "class_entropy_mean", "label_f1_mean",
    }  # fmt: skip
    for row in found["differences"]:
        apart = row["ci_low"] is not None and (row["ci_low"] > 0 or row["ci_high"] < 0)
        assert row["is_apart"] is apart
    assert {row["is_apart"] for row in found["differences"]} == {True, False}
    layers = [row for row in found["differences"] if row["layer"] != row["other_layer"]]
    assert {(row["layer"], row["other_layer"], row["other_basis"]) for row in layers} == {(5, 2, "sae")}


def test_the_table_marks_what_excludes_nothing(admin, planted):
    result = admin(planted, "results", "study", 1, "--metric", "best_f1_mean", "--metric", "label_f1_mean")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "Study 1 on planted, in-sample: 90% intervals of 200 bootstrap resamples"
    assert "layer SAE n value interval - exemplars - neurons - random - ~tree - layer before" in lines
    (first,) = [line for line in lines if line.startswith("2 relu SAE x8 5 0.560 [")]
    # 0.56 less 0.12 of the exemplars, 0.06 of the neurons, 0.09 of random directions (the mean of both draws), and 0.07
    # of the shuffled taxonomy: far from nothing.
    assert first.endswith("+0.440* +0.500* +0.470* +0.490* -")
    (second,) = [line for line in lines if line.startswith("5 relu SAE x8 5 0.580 [")]
    assert second.endswith("- - - +0.520* +0.020")
    assert any("* = the interval excludes 0" in line for line in lines)
    assert "monosemanticity" not in result.stdout
    everything = admin(planted, "results", "study", 1, "--metric", "all").stdout
    for words in ("LCH height", "coverage", "monosemanticity", "class entropy", "F1 of the label", "inner nodes"):
        assert words in everything


def test_what_cannot_be_shown_is_told_in_one_line(admin, planted):
    assert_one_line(admin(planted, "results", "study", 2), "study 2 is of a version without comparisons", "submit it")
    assert_one_line(admin(planted, "results", "study", 99), "there is no study 99")


def test_a_comparison_that_is_not_made_yet(admin, service):
    plant(service)
    number = enter_job(service)
    assert_one_line(
        admin(service, "results", "study", 1), "the comparison of study 1 is not made", f"job {number} is queued"
    )
