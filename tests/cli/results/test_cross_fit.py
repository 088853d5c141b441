"""A small study of halves, from images to its comparison and what commands print of it."""

import base64
import csv
import io
import json
import math
import re

import numpy as np
import pytest
from sqlalchemy import text
from tests.pipeline.in_process import TINY_SAE, plan_small, run_study
from tests.small import few_images, quick_scoring, register

import hsae
from hsae.catalog import transaction
from hsae.pipeline.connections import Connections
from hsae.pipeline.planning.requests import with_seeds
from hsae.split_config import SplitConfig

Z = 1.959963984540054
SEEDS = 2
N_CLASSES = 8


def rows_of(service, query, **values):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(query), values).mappings()]


@pytest.fixture(scope="module")
def study(make_service):
    """A service with a finished study of two seeds of one SAE on two images per class."""
    service = make_service()
    register(service, "few", few_images(service.folder / "few", N_CLASSES))
    scoring = quick_scoring(n_replicates=6, controls=("exemplar",), embeddings="own")
    plan = plan_small(
        service, "few", layers=(1,), saes=with_seeds((TINY_SAE,), SEEDS), split=SplitConfig(), scoring=scoring
    )
    assert {row["state"] for row in run_study(service, plan.study_id)} == {"succeeded"}
    return service


def analyses(service):
    """The analyses by seed and fold."""
    query = """
        SELECT i.sae_seed, coalesce((a.split ->> 'fold')::integer, 0) AS fold, a.id, a.split, a.n_train, a.n_select,
               a.n_score, c.first_analysis_id
        FROM analysis a JOIN analysis_input i ON i.analysis_id = a.id
        JOIN comparison_analysis c ON c.analysis_id = a.id
    """
    return {(row["sae_seed"], row["fold"]): row for row in rows_of(service, query)}


def test_every_image_is_scored_once_by_an_sae_that_did_not_see_it(study):
    found = analyses(study)
    assert set(found) == {(seed, fold) for seed in range(SEEDS) for fold in (0, 1)}
    for seed in range(SEEDS):
        first, second = found[seed, 0], found[seed, 1]
        assert "fold" not in first["split"]
        assert second["split"] == first["split"] | {"fold": 1}
        assert first["split"]["is_halved"]
        assert (first["n_train"], first["n_select"], first["n_score"]) == (N_CLASSES,) * 3
        assert (second["n_train"], second["n_score"]) == (N_CLASSES,) * 2
        images = [
            {image["image"] for row in of_half for image in row["top_images"]}
            for of_half in (
                rows_of(study, "SELECT top_images FROM latent WHERE analysis_id = :id", id=one["id"])
                for one in (first, second)
            )
        ]
        assert images[0]
        assert images[1]
        assert not images[0] & images[1], "scored images of one half are those that the other trains on"
    assert {row["first_analysis_id"] for row in found.values()} == {found[0, 0]["id"]}


def test_the_comparison_has_the_mean_of_both_and_an_interval_of_classes_seeds_and_halves(study):
    scores = rows_of(study, "SELECT * FROM comparison_score ORDER BY metric, basis")
    assert {(row["n_seeds"], row["n_folds"]) for row in scores} == {(SEEDS, 2)}
    runs = [[analyses(study)[seed, fold]["id"] for fold in (0, 1)] for seed in range(SEEDS)]
    n_defined = 0
    for row in scores:
        stored = [
            [
                rows_of(
                    study,
                    "SELECT value, replicates FROM layer_replicate"
                    " WHERE analysis_id = :id AND basis = :basis AND metric = :metric ORDER BY seed",
                    id=number,
                    basis=row["basis"],
                    metric=row["metric"],
                )
                for number in of_seed
            ]
            for of_seed in runs
        ]
        values = np.array([[[one["value"] for one in draws] for draws in of] for of in stored], float).mean(axis=2)
        replicates = np.array([[[one["replicates"] for one in draws] for draws in of] for of in stored], float)
        if np.isnan(values).any():
            assert row["value"] is None
            continue
        assert row["value"] == pytest.approx(values.mean())
        of_mean = replicates.mean(axis=(0, 1, 2))
        of_mean = of_mean[~np.isnan(of_mean)]
        if len(of_mean) < 2:
            continue
        n_defined += 1
        first, second = values.mean(axis=0)
        variance = 4 * of_mean.var(ddof=1) + values.mean(axis=1).var(ddof=1) / SEEDS + (first - second) ** 2 / 4
        reach = Z * math.sqrt(variance)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((row["value"] - reach, row["value"] + reach))
    assert n_defined >= 4
    assert {row["n_folds"] for row in rows_of(study, "SELECT n_folds FROM comparison_difference")} == {2}


def test_latents_are_matched_within_a_half(study):
    """Over two seeds each; seeds of the other half saw other images."""
    rows = rows_of(study, "SELECT analysis_id, count(*) AS n, count(DISTINCT latent) AS latents FROM latent_stability"
                   " GROUP BY 1")  # fmt: skip
    assert {row["analysis_id"] for row in rows} == {row["id"] for row in analyses(study).values()}
    assert all(row["n"] == row["latents"] for row in rows)


def test_each_half_has_its_own_probe(study):
    rows = rows_of(
        study,
        "SELECT p.analysis_id, p.class_probe_id, p.config -> 'split' -> 'fold' AS fold, a.split -> 'fold' AS own"
        " FROM analysis_probe p JOIN analysis a ON a.id = p.analysis_id",
    )
    assert len(rows) == 2 * SEEDS
    assert all(row["fold"] == row["own"] for row in rows)
    assert len({row["class_probe_id"] for row in rows}) == 2


def test_commands_tell_the_halves_apart_and_say_what_is_their_mean(study, admin):
    layers = admin(study, "results", "layers")
    assert layers.exit_code == 0, layers.output
    for half in ("half 1 scored", "half 2 scored"):
        assert half in " ".join(layers.stdout.split())
    assert "`results study` has their mean" in layers.stdout
    levels = admin(study, "results", "levels")
    assert levels.exit_code == 0, levels.output
    titles = [line.strip() for line in levels.stdout.splitlines() if line.strip().endswith(" scored")]
    assert titles == [f"cls of dinov2-emoji, few, half {half} scored" for half in (2, 1)]
    compared = admin(study, "results", "study")
    assert compared.exit_code == 0, compared.output
    assert "on few, mean of two halves (cross-fitted): 95% intervals" in compared.stdout
    assert json.loads(admin(study, "results", "study", "--json").stdout)["comparison"]["cross_fitted"] is True
    shown = admin(study, "studies", "show")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("half 1 scored") >= SEEDS
    assert "cross_fit: true" in shown.stdout


def test_the_report_shows_the_mean_of_the_halves_and_no_half_beside_the_other(study, admin, tmp_path):
    file = tmp_path / "report.html"
    done = admin(study, "report", "-o", file)
    assert done.exit_code == 0, done.output
    page = file.read_text()
    assert "Cross-fitted: each half of the images is scored by SAEs that the other half trained." in page
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])
    (score,) = rows_of(
        study, "SELECT * FROM comparison_score WHERE basis = 'sae' AND metric = 'coherence_excess'"
    )  # fmt: skip
    name = f"topk SAE, {SEEDS} seeds"
    for figure in ("hero-0", "layers-0"):
        lines = {one["name"]: one for one in data["figures"][figure]["data"]}
        assert lines[name]["y"] == [pytest.approx(score["value"])]
        assert lines[name]["customdata"] == [f"{score['ci_low']:.2f} to {score['ci_high']:.2f}"]
        assert not [one for one in lines if "half" in one]
    assert {frame["sae"] for frame in data["taxonomy"]["frames"]} == {name}
    links = re.findall(r'base64,([^"]*)" download="([^"]*)\.csv"', page)
    tables = {file: list(csv.DictReader(io.StringIO(base64.b64decode(content).decode()))) for content, file in links}
    (layer,) = tables["layers"]
    assert float(layer["coherence_excess"]) == pytest.approx(score["value"])
    stored = rows_of(study, "SELECT DISTINCT analysis_id FROM layer_interval")
    assert {int(row["analysis_id"]) for row in tables["halves"]} == {row["analysis_id"] for row in stored}
    for row in tables["nodes"]:
        found = rows_of(
            study,
            "SELECT r.f1_adjusted, r.latent FROM node_score r JOIN synset y ON y.id = r.synset_id"
            " WHERE r.is_node_best AND r.basis = 'sae' AND r.seed = 0 AND y.name = :name AND r.f1_adjusted IS NOT NULL",
            name=row["synset"],
        )
        assert float(row["f1_adjusted"]) == pytest.approx(np.mean([one["f1_adjusted"] for one in found]))
    halves = [f"half {half} scored" for half in (1, 2)]
    cards = re.findall(r'<span class="card-line">(.*?)</span>', page)
    assert cards
    assert all(any(half in line for half in halves) for line in cards)


def test_tables_of_the_python_api_say_which_half_is_scored(study):
    connections = Connections()
    connections.use(study.settings)
    workspace = hsae.Workspace(connections)
    for (_, fold), row in analyses(study).items():
        for table in (workspace.analysis(row["id"]).latents(), workspace.analysis(row["id"]).nodes()):
            assert set(table["half"]) == {f"half {2 - fold} scored"}
            assert not table["in_sample"].any()
    assert set(workspace.study("latest").layers()["half"]) == {"half 1 scored", "half 2 scored"}
