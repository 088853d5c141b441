"""hsae-admin results maps and submit --maps: from a request to pictures, and one line where there is none to draw."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text
from tests.cli.printing.widths import assert_fits
from tests.cli.refusals import MODEL, assert_one_line
from tests.pipeline.in_process import TINY_SAE, run_study
from tests.small import bare_scoring, register_small, small_request

from hsae.catalog import transaction
from hsae.catalog.findings.maps import map_rows
from hsae.pipeline.planning.study_file import read_spec
from hsae.pipeline.planning.submit import submit
from hsae.relevancy.config import MapSettings

SETTINGS = MapSettings(latents=3, images=2, methods=("chefer", "gradient"))


@pytest.fixture(scope="module")
def mapped(make_service):
    """Analyses 1 and 2 of layers 1 and 3, with maps."""
    service = make_service()
    register_small(service, n_classes=4)
    request = small_request(saes=(TINY_SAE,), scoring=bare_scoring(), own={"map": SETTINGS}, name="mapped")
    plan = submit(request, service.settings, service.sessions)
    assert {job["state"] for job in run_study(service, plan.study_id)} == {"succeeded"}
    return service


def sql(service, statement, **values):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(statement), values).mappings()]


def test_pictures_and_a_table_of_every_latent_with_maps(mapped, admin, tmp_path):
    result = admin(mapped, "results", "maps", "-o", tmp_path / "out", "--side", 40)
    assert result.exit_code == 0, result.output
    assert result.stderr == "Study 1 (mapped), the latest. Others: --study N, or --study all.\n"
    with (tmp_path / "out" / "maps.csv").open() as file:
        table = list(csv.DictReader(file))
    stored = sql(
        mapped,
        "SELECT s.analysis_id, v.* FROM latent_map v JOIN map_set s ON s.id = v.map_set_id"
        " ORDER BY analysis_id, latent, method, rank",
    )
    assert [
        (int(row["analysis_id"]), int(row["latent"]), row["method"], int(row["rank"]), row["path"]) for row in table
    ] == [(row["analysis_id"], row["latent"], row["method"], row["rank"], row["path"]) for row in stored]
    assert [float(row["concentration"]) for row in table] == [row["concentration"] for row in stored]
    files = {row["file"] for row in table}
    assert files == {path.name for path in (tmp_path / "out").glob("*.png")}
    layers = {row["id"]: row["layer"] for row in sql(mapped, "SELECT analysis_id AS id, layer FROM analysis_input")}
    for row in table:
        analysis = int(row["analysis_id"])
        assert row["file"] == f"layer-{layers[analysis]:02d}-analysis-{analysis}-latent-{row['latent']}.png"
        ranks = len({other["rank"] for other in table if other["file"] == row["file"]})
        with Image.open(tmp_path / "out" / row["file"]) as picture:
            assert picture.size == (ranks * 44 - 4, 3 * 44 - 4)  # the images, and two rows of maps
            assert np.asarray(picture).std() > 10
    assert f"{len(files)} pictures and maps.csv are in {tmp_path / 'out'}." in result.stdout


def test_filters_and_json(mapped, admin, tmp_path):
    latent = sql(mapped, "SELECT min(latent) AS latent FROM latent_map v JOIN map_set s ON s.id = v.map_set_id"
                         " WHERE s.analysis_id = 2")[0]["latent"]  # fmt: skip
    result = admin(
        mapped, "results", "maps", "--analysis", 2, "--latent", latent, "--method", "chefer", "-o", tmp_path, "--json"
    )
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    with transaction(mapped.sessions) as session:
        expected = map_rows(session, 2, [latent], methods=["chefer"])
    assert [(row["rank"], row["path"], row["peak"]) for row in rows] == [
        (row["rank"], row["path"], row["peak"]) for row in expected
    ]
    assert {(row["analysis_id"], row["layer"], row["method"]) for row in rows} == {(2, 3, "chefer")}
    of_layer = admin(mapped, "results", "maps", "--layer", 1, "--sae", "topk", "-o", tmp_path / "one", "--json")
    assert {row["analysis_id"] for row in json.loads(of_layer.stdout)} == {1}


@pytest.mark.parametrize("width", [40, 80, None])
def test_no_terminal_is_too_narrow_for_a_label(mapped, admin, tmp_path, width):
    labels = sql(mapped, "SELECT DISTINCT y.name FROM latent_map v JOIN map_set s ON s.id = v.map_set_id JOIN latent l"
                 " ON l.analysis_id = s.analysis_id AND l.basis = 'sae' AND l.latent = v.latent"
                 " JOIN synset y ON y.id = l.label_synset_id")  # fmt: skip
    longest = max((row["name"] for row in labels), key=len)
    assert_fits(admin, mapped, ("results", "maps", "-o", tmp_path / "out", "--side", 16), width, longest)
    (job, *_) = sql(mapped, "SELECT id, title FROM job WHERE kind = 'map'")
    shown = admin(mapped, "jobs", "show", job["id"])
    assert shown.exit_code == 0, shown.output
    for words in (job["title"], "succeeded", "needs", "request", "result", "history"):
        assert words in shown.stdout


def test_an_image_that_is_gone_leaves_its_square_empty_and_is_named(mapped, admin, tmp_path):
    (row,) = sql(mapped, "SELECT root FROM dataset")
    with transaction(mapped.sessions) as session:
        session.execute(text("UPDATE dataset SET root = '/not/mounted'"))
    try:
        result = admin(mapped, "results", "maps", "--layer", 1, "-o", tmp_path)
    finally:
        with transaction(mapped.sessions) as session:
            session.execute(text("UPDATE dataset SET root = :root"), {"root": row["root"]})
    assert result.exit_code == 0, result.output
    assert "Left empty: " in result.stderr
    assert "/not/mounted" in result.stderr
    assert list(tmp_path.glob("*.png"))


def test_latents_and_methods_without_maps_are_refused_in_one_line(mapped, admin, tmp_path):
    def refused(*arguments):
        return admin(mapped, "results", "maps", "--analysis", 1, "-o", tmp_path / "none", *arguments)

    have = {row["latent"] for row in sql(mapped, "SELECT DISTINCT latent FROM latent_map")}
    latents = sql(mapped, "SELECT latent, is_dead FROM latent WHERE analysis_id = 1 AND basis = 'sae' ORDER BY 1")
    dead = next(row["latent"] for row in latents if row["is_dead"])
    alive = next(row["latent"] for row in latents if not row["is_dead"] and row["latent"] not in have)
    assert_one_line(refused("--latent", dead), f"latent {dead} fires on no image", "choose another one")
    assert_one_line(refused("--latent", alive), f"latent {alive} has no maps", "submit --maps")
    assert_one_line(refused("--latent", 99999), "there is no latent 99999")
    for beyond in (2**31, 10**30, -1):  # an integer of SQL ends at 2**31 - 1
        result = refused("--latent", beyond)
        assert result.exit_code == 2
        assert f"{beyond} is not in the range 0<=x<=2147483647" in result.stderr
        assert "Traceback" not in result.output
    assert_one_line(refused("--latent", 2**31 - 1), "there is no latent 2147483647")
    assert_one_line(refused("--method", "random"), "no maps were made by random", "map: {latents: 32")
    assert not (tmp_path / "none").exists()
    some = refused("--latent", min(have), "--latent", alive)
    if some.exit_code == 0:
        assert f"No maps were made of latent {alive}" in some.stderr


def test_lost_maps_are_made_again_by_the_next_submit(make_service, admin, tmp_path):
    service = make_service()
    register_small(service, n_classes=3)
    request = small_request(layers=(1,), saes=(TINY_SAE,), scoring=bare_scoring(), own={"map": SETTINGS})
    run_study(service, submit(request, service.settings, service.sessions).study_id)
    (key,) = service.store.list("maps/")
    service.store.delete(key)
    result = admin(service, "results", "maps", "-o", tmp_path)
    assert result.exit_code == 1
    assert key in result.stderr
    plan = submit(request, service.settings, service.sessions)
    assert [job.status for job in plan.jobs if job.kind == "map"] == ["again"]
    run_study(service, plan.study_id)
    assert list(service.store.list("maps/")) == [key]
    assert admin(service, "results", "maps", "-o", tmp_path).exit_code == 0


def test_without_maps_one_line_says_how_to_make_them(make_service, admin, tmp_path):
    service = make_service()
    register_small(service, n_classes=3)
    plan = submit(
        small_request(layers=(1,), saes=(TINY_SAE,), scoring=bare_scoring()), service.settings, service.sessions
    )
    run_study(service, plan.study_id)
    result = admin(service, "results", "maps", "-o", tmp_path)
    assert_one_line(result, "no analysis that fits has relevancy maps", "--maps 32")


def test_submit_takes_a_number_of_latents(service, admin, tmp_path):
    register_small(service, n_classes=2)
    command = ("submit", "--layer", 1, *MODEL, "--split", "none", "--sae", "topk", "--k", 4, "--expansion", 2)
    plain = json.loads(admin(service, *command, "--json").stdout)
    assert "map" not in {job["kind"] for job in plain["jobs"]}
    mapped = json.loads(admin(service, *command, "--maps", 5, "--json").stdout)
    (job,) = (job for job in mapped["jobs"] if job["kind"] == "map")
    assert "(latents=5)" in job["title"]
    assert mapped["study"] == plain["study"]
    assert_one_line_of_usage(admin(service, *command, "--maps", -1))
    spec = tmp_path / "study.yaml"
    spec.write_text(
        f"layers: 1\nmodel: {MODEL[1]}\nsplit: none\nsaes: [{{kind: topk, k: 4, expansion: 2}}]\n"
        "map: {latents: 4, methods: [random, chefer]}\n"
    )
    request = read_spec(spec).request(service.settings, folder=tmp_path)
    assert request.own["map"] == MapSettings(latents=4, methods=("chefer", "random"))
    assert type(request).model_validate_json(request.model_dump_json()) == request


def assert_one_line_of_usage(result):
    assert result.exit_code == 2
    assert "--maps" in result.stderr
