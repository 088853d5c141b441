"""hsae-admin results study, over known scores."""

import json

import pytest
from sqlalchemy import select, text, update
from tests.cli.refusals import assert_one_line
from tests.pipeline.stages.test_compare import enter_job
from tests.planted_scores import SCORES, plant

from hsae.catalog import Sae, transaction
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
    assert found["comparison"]["config"] == {"confidence": 0.9, "format": 2}
    assert found["comparison"]["dataset"] == "planted"
    scores = {(row["layer"], row["basis"]): row for row in found["scores"] if row["metric"] == "coherence_excess"}
    controls = {"exemplar", "neuron", "random", "shuffled_taxonomy"}
    assert set(scores) == {(2, "sae"), (5, "sae"), (5, "shuffled_taxonomy"), *((2, control) for control in controls)}
    assert scores[2, "sae"]["value"] == pytest.approx(sum(SCORES[1, "sae", 0].values()) / 6)
    assert scores[2, "sae"]["sae"] == "relu SAE x8"
    assert {row["metric"] for row in found["scores"]} == {"coherence_excess", "purity_mean"}
    assert [row["metric"] for row in found["trends"]] == ["coherence_excess", "purity_mean"]
    for row in found["differences"]:
        apart = row["ci_low"] is not None and (row["ci_low"] > 0 or row["ci_high"] < 0)
        assert row["is_apart"] is apart
    assert {row["is_apart"] for row in found["differences"]} == {True, False}
    layers = [row for row in found["differences"] if row["layer"] != row["other_layer"]]
    assert {(row["layer"], row["other_layer"], row["other_basis"]) for row in layers} == {(5, 2, "sae")}


def test_a_warning_says_when_the_held_out_l0s_differ(admin, planted):
    def warned(*l0s):
        with transaction(planted.sessions) as session:
            numbers = session.scalars(select(Sae.id).order_by(Sae.id)).all()
            for number, l0 in zip(numbers, l0s, strict=True):
                session.execute(update(Sae).where(Sae.id == number).values(l0=l0))
        result = admin(planted, "results", "study", 1)
        assert result.exit_code == 0, result.output
        return [line for line in result.stdout.splitlines() if line.startswith("Warning")]

    with transaction(planted.sessions) as session:
        before = session.scalars(select(Sae.l0).order_by(Sae.id)).all()
    assert len(before) == 2
    assert warned(10.0, 10.9) == []
    assert warned(None, None) == []
    assert warned(10.0, None) == []
    (line,) = warned(12.0, 10.0)
    assert line.startswith("Warning: the SAEs' held-out L0 goes from 10 to 12, so a difference may be one of sparsity")
    warned(*before)


def test_the_table_marks_what_excludes_nothing(admin, planted):
    result = admin(planted, "results", "study", 1)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "Study 1 on planted, in-sample: 90% intervals by deleting a fifth of the classes"
    assert "layer SAE n value ↑ interval - exemplars - neurons - random - ~tree - layer before" in lines
    (first,) = [line for line in lines if line.startswith("2 relu SAE x8 149 0.583 [")]
    assert first.endswith("+0.483* +0.533* +0.508* +0.525* -")
    (second,) = [line for line in lines if line.startswith("5 relu SAE x8 148 0.600 [")]
    assert second.endswith("- - - +0.550* +0.017")
    (trend,) = [line for line in lines if line.startswith("coherence_excess relu SAE x8 ")]
    assert trend.endswith("not shown")
    assert any("* = a gain whose interval" in line for line in lines)
    assert "purity" not in result.stdout
    assert "purity" in admin(planted, "results", "study", 1, "--metric", "all").stdout


def test_a_purity_without_an_interval_says_why(admin, planted):
    def shown(value):
        with transaction(planted.sessions) as session:
            session.execute(
                text("UPDATE comparison_score SET value = :value WHERE metric = 'purity_mean'"), {"value": value}
            )
        result = admin(planted, "results", "study", 1, "--metric", "purity_mean")
        assert result.exit_code == 0, result.output
        return result.stdout

    said = shown(0.25)
    assert said.splitlines()[-1].startswith("Purity has no interval where fewer than 100 classes have two images among")
    assert [line for line in said.splitlines() if " 0.250 " in line and line.rstrip().endswith("-")]
    assert "unknown" in said, "whether it rises with depth"
    assert "Purity has no interval" not in shown(None), "undefined, which needs no reason"


def test_a_comparison_of_an_earlier_version_is_still_shown_with_a_warning(admin, service):
    plant(service)
    assert run_job(enter_job(service), service.settings, "test") == "succeeded"
    config = '{"seed": 0, "n_resamples": 200, "confidence": 0.9}'
    with transaction(service.sessions) as session:
        session.execute(text("UPDATE comparison SET config = CAST(:config AS jsonb)"), {"config": config})
        for statement in (
            "UPDATE comparison_score SET metric = 'best_f1_inner_mean', n_seeds = NULL"
            " WHERE metric = 'coherence_excess'",
            "DELETE FROM comparison_difference",
            "DELETE FROM comparison_trend",
        ):
            session.execute(text(statement))
    result = admin(service, "results", "study", 1)
    assert result.exit_code == 0, result.output
    for words in ("200 bootstrap resamples", "best F1 of any latent", "intervals are too narrow"):
        assert words in result.stdout


def test_what_cannot_be_shown_is_told_in_one_line(admin, planted):
    assert_one_line(admin(planted, "results", "study", 2), "study 2 is of a version without comparisons", "submit it")
    assert_one_line(admin(planted, "results", "study", 99), "there is no study 99")


def test_a_comparison_that_is_not_made_yet(admin, service):
    plant(service)
    number = enter_job(service)
    assert_one_line(
        admin(service, "results", "study", 1), "the comparison of study 1 is not made", f"job {number} is queued"
    )


@pytest.mark.parametrize("arguments", [["study", 1], ["study", 1, "--metric", "purity_mean", "--json"]])
def test_a_figure_for_a_paper(admin, planted, tmp_path, arguments):
    path = tmp_path / "study.svg"
    result = admin(planted, "results", *arguments, "--plot", path)
    assert result.exit_code == 0, result.output
    assert str(path) in result.stderr
    assert path.read_bytes().startswith(b"<?xml")


def test_a_figure_of_another_format_is_refused_before_anything_is_read(admin, planted, tmp_path):
    assert_one_line(admin(planted, "results", "study", 99, "--plot", tmp_path / "study.jpg"), "study.jpg", ".svg")
