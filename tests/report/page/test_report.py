"""The command `report`, and what the file says."""

import base64
import csv
import html
import io
import json
import re

import pytest
from tests.report.page.conftest import EVIL, EVIL_FILE, EVIL_NAME, HELD_OUT, IN_SAMPLE, QUEUED, UNCOMPARED

from hsae.pipeline.exports import report_content, study_report
from hsae.report.charts.theme import number
from hsae.store.keys import latents_key
from hsae.vocabulary.bases import BASELINES


@pytest.fixture(scope="module")
def page(reported, tmp_path_factory) -> str:
    return reported.report(HELD_OUT, tmp_path_factory.mktemp("report") / "report.html").read_text()


def tables_of(page: str) -> dict[str, list[dict[str, str]]]:
    """The tables behind the links, by name."""
    found = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]*)" download="([^"]*)\.csv"', page)
    return {name: list(csv.DictReader(io.StringIO(base64.b64decode(data).decode()))) for data, name in found}


def test_one_small_file_that_asks_for_nothing(page):
    assert len(page) < 8_000_000
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!data:|#)', body)
    assert "default-src 'none'" in page


def test_the_numbers_of_the_layers_are_those_of_the_catalog(reported, page):
    wanted = reported.rows(
        "SELECT v.analysis_id, i.layer, v.value, v.low, v.high FROM layer_interval v JOIN analysis_input i"
        " USING (analysis_id) JOIN study_job s ON s.job_id = i.job_id"
        " WHERE s.study_id = :study AND v.basis = 'sae' AND v.metric = 'coherence_excess'",
        study=HELD_OUT,
    )
    rows = {int(row["analysis_id"]): row for row in tables_of(page)["layers"]}
    assert len(wanted) == len(rows) == 4
    for one in wanted:
        row = rows[one["analysis_id"]]
        assert int(row["layer"]) == one["layer"]
        names = ("coherence_excess", "coherence_excess_low", "coherence_excess_high")
        assert [float(row[name]) for name in names] == pytest.approx([one["value"], one["low"], one["high"]])


def test_the_verdict_is_that_of_the_trend(reported, page):
    trends = reported.rows("SELECT * FROM comparison_trend WHERE metric = 'coherence_excess'")
    assert trends
    for row in trends:
        assert f"{row['slope']:+.3f}".replace("-", "−") in page


def test_every_latent_is_shown_once_with_its_images_and_a_label_of_its_own(reported, page):
    cards = re.findall(r'id="latent-(\d+)-(\d+)"', page)
    assert len(cards) == len(set(cards)) > 4
    latents = tables_of(page)["latents"]
    assert [(row["analysis_id"], row["latent"]) for row in latents] == cards
    labels = [(row["analysis_id"], row["synset"]) for row in latents]
    assert len(labels) == len(set(labels))
    for row in latents:
        (stored,) = reported.rows(
            "SELECT l.label_f1, l.label_q, y.name FROM latent l JOIN synset y ON y.id = l.label_synset_id"
            " WHERE l.basis = 'sae' AND l.analysis_id = :analysis AND l.latent = :latent",
            analysis=int(row["analysis_id"]), latent=int(row["latent"]),
        )  # fmt: skip
        assert row["synset"] == stored["name"]
        assert float(row["f1"]) == pytest.approx(stored["label_f1"])
    assert page.count('<img src="data:image/webp;base64,') > len(cards)


def test_every_number_of_a_card_stands_beside_its_null(reported, page):
    """Adjusted F1 beside adjusted F1 of controls at the same node; F1, precision and recall beside chance."""
    n_compared = 0
    cards = re.findall(r'<details class="card" id="latent-(\d+)-(\d+)"(.*?)</details>', page, flags=re.DOTALL)
    for analysis, latent, body in cards:
        (row,) = reported.rows(
            "SELECT l.label_f1_adjusted, l.label_f1, l.label_precision, l.label_recall, l.label_synset_id AS node,"
            " l.n_fire::float / n.n AS d, (SELECT r.n_images::float / n.n FROM node_score r WHERE r.basis = 'sae'"
            "   AND r.analysis_id = l.analysis_id AND r.synset_id = l.label_synset_id AND r.is_node_best) AS p"
            " FROM latent l JOIN analysis_input i USING (analysis_id), coalesce(i.n_score, i.n_images) n(n)"
            " WHERE l.basis = 'sae' AND l.analysis_id = :analysis AND l.latent = :latent",
            analysis=int(analysis), latent=int(latent),
        )  # fmt: skip
        reached = {
            one["basis"]: one["reached"]
            for one in reported.rows(
                "SELECT r.basis, sum(greatest(0, r.f1_adjusted)) / (SELECT count(*) FROM layer_score s"
                "   WHERE s.analysis_id = :analysis AND s.basis = r.basis) AS reached FROM node_score r"
                " WHERE r.is_node_best AND r.basis <> 'sae' AND r.f1_adjusted IS NOT NULL"
                "   AND r.analysis_id = :analysis AND r.synset_id = :node GROUP BY r.basis",
                analysis=int(analysis), node=row["node"],
            )
        }  # fmt: skip
        tree = reached.pop("shuffled_taxonomy", None)
        cells = {name: rest for name, *rest in re.findall(r'"row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', body)}
        value, beside = cells["adjusted F1"]
        assert value == number(row["label_f1_adjusted"])
        baselines = [value for basis, value in reached.items() if basis in BASELINES]
        if baselines:
            assert f"best baseline {number(max(baselines))} (" in beside
            n_compared += 1
        if tree is not None:
            assert f"shuffled tree {number(tree)};" in beside
        assert cells["F1"] == [
            number(row["label_f1"]),
            f"{number(2 * row['d'] * row['p'] / (row['d'] + row['p']))} by chance",
        ]
        assert cells["precision"] == [number(row["label_precision"]), f"{number(row['p'])} by chance"]
        assert cells["recall"] == [number(row["label_recall"]), f"{number(row['d'])} by chance"]
    assert n_compared > 4


def test_latents_with_maps_show_them_below_their_images(reported, page):
    maps = reported.rows(
        "SELECT s.analysis_id, v.latent, count(v.map_index) AS n FROM latent_map v JOIN map_set s"
        " ON s.id = v.map_set_id GROUP BY s.analysis_id, v.latent"
    )
    assert maps
    n_maps = {(row["analysis_id"], row["latent"]): row["n"] for row in maps}
    cards = re.findall(r'<details class="card" id="latent-(\d+)-(\d+)".*?</details>', page, flags=re.DOTALL)
    bodies = re.findall(r'<details class="card" id="latent-\d+-\d+".*?</details>', page, flags=re.DOTALL)
    shown = {}
    for (analysis, latent), body in zip(cards, bodies, strict=True):
        shown[int(analysis), int(latent)] = len(re.findall(r'<img src="data:[^"]*" alt="where latent', body))
    assert any(shown.values())
    for place, n in shown.items():
        assert n == n_maps.get(place, 0)


def test_histograms_count_the_scored_images(reported, page):
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])
    latents = {f"latent-{row['analysis_id']}-{row['latent']}": int(row["n_fire"]) for row in tables_of(page)["latents"]}
    assert set(data["histograms"]) == set(latents)
    for anchor, figure in data["histograms"].items():
        assert sum(sum(bars["y"]) for bars in figure["data"]) == latents[anchor]


def test_names_are_never_code(reported, page):
    assert EVIL not in page
    assert "<b>one</b>" not in page
    assert EVIL_NAME not in page
    assert html.escape(EVIL) in page, "but they are shown"
    assert len(re.findall(r"<script", page)) == 3, "data, Plotly, and the page's own"


def test_a_gone_image_and_a_root_that_is_not_mounted(reported, tmp_path):
    gone = next(reported.root.rglob("*onerror*"))
    aside = gone.rename(gone.with_name("aside.webp"))
    try:
        page = reported.report(HELD_OUT, tmp_path / "gone.html").read_text()
        assert EVIL_FILE not in page
        assert "the file is gone" in page
        assert 'class="missing"' in page
        moved = reported.root.rename(reported.root.with_name("moved"))
        try:
            page = reported.report(HELD_OUT, tmp_path / "unmounted.html").read_text()
            assert f"{reported.root}: the data set&#39;s folder is not on this machine" in page
            assert "data:image/webp" not in page
        finally:
            moved.rename(reported.root)
    finally:
        aside.rename(gone)


def test_lost_activations_cost_the_histograms_alone(reported, tmp_path):
    store = reported.service.store
    (row,) = reported.rows("SELECT key, activations_sha256 FROM analysis WHERE id = 1")
    key = latents_key(row["key"], row["activations_sha256"])
    content = store.get(key)
    store.delete(key)
    try:
        page = reported.report(HELD_OUT, tmp_path / "report.html").read_text()
    finally:
        store.put(key, content)
    assert "those of analysis 1 are lost from the object store" in page
    shown = {anchor.split("-")[1] for anchor in re.findall(r'data-histogram="([^"]*)"', page)}
    assert shown == {row["analysis_id"] for row in tables_of(page)["latents"]} - {"1"}


def test_in_sample_numbers_say_so_everywhere(reported, page, tmp_path):
    assert "in-sample" not in re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL).lower()
    shown = reported.report(IN_SAMPLE, tmp_path / "report.html").read_text()
    body = re.sub(r"<(style|script).*?</\1>", "", shown, flags=re.DOTALL)
    assert "Held-out numbers: the study has no split" in body
    for heading in re.findall(r"<h2.*?</h2>", body, re.DOTALL):
        assert "in-sample" in heading or "question" in heading or "Not measured" in heading or "not measured" in heading
    for card in re.findall(r'<details class="card".*?</details>', body, re.DOTALL):
        assert card.count("in-sample") >= 2
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', shown, re.DOTALL)[1])
    figures = [*data["figures"].values(), *data["histograms"].values(), data["taxonomy"]["figure"]]
    assert {figure["layout"]["annotations"][0]["text"] for figure in figures} == {"in-sample"}
    assert {row["in_sample"] for table in tables_of(shown).values() for row in table} == {"yes"}


def not_measured(page: str) -> str:
    return page[page.index('id="unmeasured"') : page.index('id="data"')]


def test_what_was_not_measured_is_said(reported, page, tmp_path):
    assert "every SAE was trained with one seed" in not_measured(page)
    assert "--maps" not in not_measured(page), "it has maps"
    without = not_measured(reported.report(IN_SAMPLE, tmp_path / "report.html").read_text())
    assert "Relevancy maps" in without
    assert "--maps 32" in without


def test_a_study_that_is_not_compared_yet_says_so(reported, tmp_path):
    done = reported.run(UNCOMPARED, "-o", tmp_path / "report.html")
    assert done.exit_code == 0, done.output
    assert "Jobs of this study are not done (1 queued)" in done.stderr
    page = (tmp_path / "report.html").read_text()
    assert "Jobs of this study are not done" in page
    assert "The trend with depth is not tested: the comparison of study 4 is not made" in page


def test_without_scores_there_is_one_line(reported, tmp_path):
    done = reported.run(QUEUED, "-o", tmp_path / "report.html")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: study 3 has no scores to report yet: jobs of this study are not done (")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


def test_the_latest_study_with_scores_is_taken_and_named(reported, tmp_path):
    for option in ([], ["--latest"]):
        done = reported.run(*option, "-o", tmp_path / "report.html", "--json")
        assert json.loads(done.stdout)["study"] == UNCOMPARED
    said = reported.run("-o", tmp_path / "report.html")
    assert said.stderr.startswith("Study 4 (")
    assert "1 analysis" in said.stdout or "2 analyses" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([99], "there is no study 99"),
        ([1, "--latest"], "name a study, or give --latest"),
        ([1, "-o", "/dev/null/report.html"], "/dev/null/report.html cannot be written"),
    ],
)
def test_refusals(reported, arguments, message):
    done = reported.run(*arguments)
    assert done.exit_code != 0
    assert message in done.stderr


def test_the_number_of_cards_is_bounded(reported, tmp_path, monkeypatch):
    monkeypatch.setattr(study_report, "MAX_CARDS", 3)
    page = reported.report(HELD_OUT, tmp_path / "report.html").read_text()
    assert len(re.findall(r'class="card"', page)) == 3


def test_controls_are_no_maps_of_a_card(reported, tmp_path):
    """A study may have maps of controls alone; random noise is not where a latent comes from."""
    change = "UPDATE latent_map SET method = :new WHERE method = :old RETURNING 1"
    assert reported.rows(change, old="chefer", new="random")
    try:
        page = reported.report(HELD_OUT, tmp_path / "report.html").read_text()
    finally:
        reported.rows(change, old="random", new="chefer")
    assert "bright patches are the most relevant" not in page
    assert "where latent" not in page


def test_of_a_large_taxonomy_as_many_analyses_are_drawn_as_fit(reported, tmp_path, monkeypatch):
    (nodes,) = reported.rows("SELECT n_nodes FROM dataset")
    monkeypatch.setattr(report_content, "_MAX_DRAWN_NODES", 2 * nodes["n_nodes"] + 1)
    page = reported.report(HELD_OUT, tmp_path / "report.html").read_text()
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["taxonomy"]["frames"]) == 2
    assert "The taxonomy shows the first 2 of 4 analyses" in page
    monkeypatch.setattr(report_content, "_MAX_DRAWN_NODES", 1)
    page = reported.report(HELD_OUT, tmp_path / "report.html").read_text()
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["taxonomy"]["frames"]) == 1, "one at least"
