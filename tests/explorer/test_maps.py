"""Relevancy maps on the page of a latent: the stored ones over their images, and plain words where there are none."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.explorer.conftest import N_MAPPED

from hsae.catalog.findings.maps import map_rows
from hsae.pipeline.gallery.map_pictures import map_pictures
from hsae.pipeline.gallery.thumbnails import Thumbnails
from hsae.store.keys import maps_key


@pytest.fixture
def mapped(explored) -> list[dict]:
    """The maps that are no controls, of the last analysis that has some."""
    return explored.sql(
        "SELECT s.analysis_id, s.key, s.maps_sha256, v.* FROM latent_map v JOIN map_set s ON s.id = v.map_set_id"
        " WHERE v.method = 'chefer' AND s.analysis_id = (SELECT max(analysis_id) FROM map_set)"
        " ORDER BY v.latent, v.rank"
    )


def shown(page: str) -> list[str]:
    return re.findall(r'<img src="(/map/[^"]*)"', page)


def placeholder(explored, path: str) -> str:
    answer = explored.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-placeholder"] == "1"
    return re.sub(r"<[^>]*>", " ", answer.text)


def test_the_page_of_a_latent_shows_its_maps_and_no_control(explored, mapped):
    latents = {row["latent"] for row in mapped}
    assert len(latents) == N_MAPPED
    for latent in latents:
        of_latent = [row for row in mapped if row["latent"] == latent and row["map_index"] is not None]
        page = explored.get(f"/latent/{of_latent[0]['analysis_id']}/sae/{latent}")
        analysis = of_latent[0]["analysis_id"]
        wanted = [f"/map/{analysis}/{latent}/{row['image']}?side=256" for row in of_latent]
        assert shown(page) == wanted
        assert "Relevancy maps (chefer)" in page
        n_images = len(re.findall(r'<img src="/thumbnail/[^"]*side=256', page))
        assert page.count("no map was made of this image") == n_images - len(of_latent), "others have none"


def test_a_picture_is_that_of_the_report(explored, mapped):
    analysis = mapped[0]["analysis_id"]
    with explored.sources.reading() as session:
        rows = [row for row in map_rows(session, analysis, methods=["chefer"]) if row["map_index"] is not None]
    drawn = map_pictures(explored.service.store, Thumbnails(None, side=112), rows)
    assert len(drawn) == len(rows) > N_MAPPED
    for row in rows:
        answer = explored.client.get(f"/map/{analysis}/{row['latent']}/{row['image']}?side=112")
        assert answer.headers["content-type"] == "image/webp"
        assert answer.content == drawn[analysis, row["latent"], row["path"]]
        pixels = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))
        assert pixels.std() > 0


def test_a_latent_without_maps_says_how_to_make_them(explored, mapped):
    latent = explored.one(
        "SELECT latent FROM latent WHERE analysis_id = :analysis AND basis = 'sae' AND NOT is_dead"
        " AND NOT latent = ANY(:mapped) LIMIT 1",
        analysis=mapped[0]["analysis_id"], mapped=[row["latent"] for row in mapped],
    )  # fmt: skip
    page = explored.get(f"/latent/{mapped[0]['analysis_id']}/sae/{latent}")
    assert shown(page) == []
    assert "No relevancy maps were made of this latent" in page
    assert "maps=True" not in page


def test_a_column_of_a_baseline_has_no_maps_and_no_note(explored, mapped):
    page = explored.get(f"/latent/{mapped[0]['analysis_id']}/neuron/{mapped[0]['latent']}")
    assert shown(page) == []
    assert "relevancy maps" not in page.lower()


def test_an_image_source_that_is_away_leaves_a_placeholder_that_names_it(explored, mapped):
    row = next(row for row in mapped if row["map_index"] is not None)
    path = f"/map/{row['analysis_id']}/{row['latent']}/{row['image']}?side=96"
    root = explored.one("SELECT root FROM dataset WHERE name = 'small'")
    away = Path(root).with_name("moved-away")
    Path(root).rename(away)
    try:
        assert "not on this machine" in " ".join(placeholder(explored, path).split())
        assert shown(explored.get(f"/latent/{row['analysis_id']}/sae/{row['latent']}")), "the page stands"
    finally:
        away.rename(root)
    assert explored.client.get(path).headers["content-type"] == "image/webp"


def test_lost_maps_and_undefined_ones_are_told(explored, mapped):
    row = next(row for row in mapped if row["map_index"] is not None)
    path = f"/map/{row['analysis_id']}/{row['latent']}/{row['image']}"
    key = maps_key(row["key"], row["maps_sha256"])
    content = explored.service.store.get(key)
    copy = explored.sources.copies._folder / row["maps_sha256"]
    copy.unlink(missing_ok=True)
    explored.service.store.delete(key)
    try:
        assert "maps" in placeholder(explored, path)
    finally:
        explored.service.store.put(key, content)
    where = {"id": row["map_set_id"], "latent": row["latent"], "rank": row["rank"]}
    change = "UPDATE latent_map SET map_index = {} WHERE map_set_id = :id AND latent = :latent AND rank = :rank"
    change += " AND method = 'chefer' RETURNING 1"
    explored.one(change.format("NULL"), **where)
    try:
        assert "undefined" in " ".join(placeholder(explored, path).split())
        page = explored.get(f"/latent/{row['analysis_id']}/sae/{row['latent']}")
        assert path not in page
        assert f"image {row['image']}: the map is undefined" in page
    finally:
        explored.one(change.format(row["map_index"]), **where)


@pytest.mark.parametrize("path", ["/map/1/1/999999", "/map/77/1/1", f"/map/{10**18}/{10**18}/1", "/map/1/99999/1"])
def test_unknown_maps_are_a_plain_404(explored, path):
    assert "There is no relevancy map" in explored.get(path, 404)
