"""Studies, analyses and tables of a service, as a notebook sees them."""

import dataclasses

import pandas as pd
import pytest
from sqlalchemy import text

import hsae
from hsae.catalog import transaction
from hsae.catalog.findings.study_intervals import comparison_trends, find_comparison


def test_open_reads_the_variables(studied, monkeypatch):
    for name, value in studied.environment.items():
        monkeypatch.setenv(name, value)
    opened = hsae.open()
    assert list(opened.studies().study) == [1]
    assert "password" not in repr(opened)
    assert studied.settings.database_url.get_secret_value() not in repr(opened)


def test_open_without_a_service_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("HSAE_DATABASE_URL", raising=False)
    with pytest.raises(hsae.UserError, match="no database is set: start a private stack with `hsae-admin up`"):
        hsae.open(home=tmp_path)


def test_studies_and_datasets(workspace):
    studies = workspace.studies()
    assert isinstance(studies, pd.DataFrame)
    assert list(studies.columns)[:2] == ["study", "name"]
    assert "id" not in studies.columns
    assert list(workspace.datasets().name) == ["small"]


def test_a_study_by_number_name_and_latest(workspace):
    study = workspace.study()
    assert (study.id, study.name) == (1, "dinov2-emoji on small")
    assert workspace.study(1) == study == workspace.study("dinov2-emoji on small")
    with pytest.raises(hsae.UserError, match=r"there is no study 7: there is 1 \(dinov2-emoji on small\)"):
        workspace.study(7)
    with pytest.raises(hsae.UserError, match="there is no study 'birds'"):
        workspace.study("birds")


def test_layers_are_the_rows_of_the_command_line(study, admin_json):
    layers = study.layers()
    rows = admin_json("results", "layers", "--study", "1")
    assert list(layers.columns)[:3] == ["layer", "sae", "coherence_excess"]
    assert len(layers) == len(rows) == 4
    for shown, row in zip(layers.to_dict("records"), rows, strict=True):
        for name, value in row.items():
            assert shown[name] == value or (value is None and pd.isna(shown[name])), name


def test_depth_test_is_that_of_the_comparison(study, studied):
    found = study.depth_test("coherence")
    with transaction(studied.sessions) as session:
        trends = comparison_trends(session, find_comparison(session, 1)["id"])
    rows = [row for row in trends if row["metric"] == "coherence_excess"]
    assert list(found.slope) == [row["slope"] for row in rows]
    assert list(found.low) == [row["ci_low"] for row in rows]
    assert set(found.rises) <= {"yes", "it falls", "not shown", "unknown"}
    assert list(found.columns)[:6] == ["sae", "metric", "slope", "low", "high", "rises"]
    with pytest.raises(hsae.UserError, match=r"no metric 'coherenc' \(did you mean coherence\?\): choose from"):
        study.depth_test("coherenc")
    with pytest.raises(hsae.UserError, match="study 1 has no slope of coverage_mean: choose from"):
        study.depth_test("coverage_mean")


def test_plot_draws_every_sae_beside_its_nulls(study):
    for metric in ("coherence", "f1", "purity"):
        (axes,) = study.plot(metric).axes
        labels = [one.get_text() for one in axes.get_legend().get_texts()]
        assert labels[2:] == ["each with its best baseline", "each with the taxonomy shuffled"]
        assert labels[:2] == ["relu", "topk"]
        has_note = axes.get_ylabel().endswith("(no interval)")
        assert has_note == (metric == "purity"), "few classes carry it"
        layers = study.layers()
        assert sorted(set(axes.lines[0].get_xdata())) == sorted(set(layers.layer))
    (axes,) = study.plot().axes
    assert axes.get_title() == "study 1: dinov2-emoji on small"  # held out
    drawn = {round(float(value), 9) for line in axes.lines for value in line.get_ydata()}
    assert {round(value, 9) for value in study.layers().coherence_excess} <= drawn


def set_split(studied, number: int, split: str | None) -> str:
    """Change how an analysis' images are said to be divided; returns what was said before."""
    with transaction(studied.sessions) as session:
        before = session.execute(text("SELECT split::text FROM analysis WHERE id = :id"), {"id": number}).scalar_one()
        change = text("UPDATE analysis SET split = CAST(:split AS jsonb) WHERE id = :id")
        session.execute(change, {"id": number, "split": split})
    return before


def test_the_title_of_a_plot_says_what_is_in_sample(study, studied):
    numbers = sorted(study.analyses().analysis_id.tolist())
    splits = {numbers[0]: set_split(studied, numbers[0], None)}
    try:
        (axes,) = study.plot().axes
        assert axes.get_title().endswith(f"small, analysis {numbers[0]} in-sample")
        splits |= {number: set_split(studied, number, None) for number in numbers[1:]}
        (axes,) = study.plot().axes
        assert axes.get_title().endswith("small, in-sample")
    finally:
        for number, split in splits.items():
            set_split(studied, number, split)


def test_a_notebook_shows_workspace_and_study_as_tables(workspace, study):
    """A name is a text there."""
    assert f"<td>{study.name}</td>" in workspace._repr_html_()
    assert " succeeded" in workspace._repr_html_()
    shown = study._repr_html_()
    for row in study.layers().itertuples():
        assert f"<td>{row.coherence_excess:.3g}</td>" in shown
    assert "<td>None</td>" not in shown
    evil = dataclasses.replace(study, name="<script>alert(1)</script>")
    assert "<script>" not in evil._repr_html_()


def test_a_notebook_shows_an_analysis_and_activations_as_tables(analysis, study):
    evil = "<script>alert(1)</script>"
    shown = analysis._repr_html_()
    about = analysis.about
    for value in (about["model"], about["dataset"], "topk", 3, f"{analysis.metrics['fvu']:.3g}", "held out"):
        assert f"<td>{value}</td>" in shown
    page = dataclasses.replace(analysis, about={**about, "model": evil, "dataset": evil, "split": None})._repr_html_()
    assert page.count("&lt;script&gt;") == 2
    assert "<td>in-sample</td>" in page
    acts = study.activations(layer=3)[:7]
    for value in (acts.manifest.model, 3, "residual", "cls", 7, 192, "float32"):
        assert f"<td>{value}</td>" in acts._repr_html_()
    page = dataclasses.replace(acts, manifest=acts.manifest.model_copy(update={"model": evil}))._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_choice_of_an_analysis(study):
    chosen = study.analysis(layer=3, sae="topk", k=8)
    assert (chosen.layer, chosen.about["sae_config"]["k"]) == (3, 8)
    assert study.analysis(number=chosen.id).id == chosen.id
    numbers = list(study.analyses().analysis_id)
    for wanted, words in (
        (
            {"layer": 3},
            ["2 analyses of study 1 fit", "choose by sae= (relu, topk)", "take one by its number (number=)"],
        ),
        ({}, ["4 analyses of study 1 fit", "layer= (1, 3)", "sae= (relu, topk)"]),
        ({"layer": 2}, ["no analysis of study 1 has layer 2: there is layer 1, 3"]),
        ({"sae": "frozen"}, ["no analysis of study 1 has sae frozen: there is sae relu, topk"]),
        ({"k": 5}, ["has k 5: there is k 8"]),
        ({"colour": 1}, ["no analysis of study 1 has a setting colour: choose from number, layer", "sae", "k"]),
        ({"number": 99}, [f"has number 99: there is number {', '.join(map(str, numbers))}"]),
    ):
        with pytest.raises(hsae.UserError) as refused:
            study.analysis(**wanted)
        message = str(refused.value)
        assert "\n" not in message
        for word in words:
            assert word in message, message


def test_analyses_have_titles(study):
    analyses = study.analyses()
    assert list(analyses.columns)[:4] == ["analysis_id", "layer", "sae_kind", "title"]
    assert {title.split(" x4")[0] for title in analyses.title} == {"relu SAE", "topk SAE"}


def test_jobs(study):
    assert set(study.jobs().state) == {"succeeded"}


def test_an_analysis_by_number(workspace, analysis):
    assert workspace.analysis(analysis.id).about == analysis.about
    with pytest.raises(hsae.UserError, match="there is no analysis 99"):
        workspace.analysis(99)
    assert repr(analysis).startswith(f"<Analysis {analysis.id}: topk SAE x4, layer 3, cls of ")
