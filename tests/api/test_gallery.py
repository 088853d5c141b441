"""The grid of images: what it shows, what it says where it cannot, and that it lets nothing through."""

import io
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import text

import hsae
from hsae.api.shown.cards import LatentCard, Relevancy, ShownImage
from hsae.api.shown.gallery import Gallery
from hsae.catalog import Dataset, transaction
from hsae.catalog.tables.maps import LatentMap, MapSet
from hsae.store.keys import maps_key
from hsae.store.tensors import put_tensors

WHOLE = {"do_resize": True, "size": {"height": 8, "width": 8}, "image_size": [8, 8]}


def test_a_row_for_each_latent_with_its_strongest_images(analysis, studied):
    latents = analysis.latents(min_f1=0.3).latent[:3]
    gallery = analysis.show(latents, n=4)
    assert [card.latent for card in gallery.cards] == list(latents)
    with transaction(studied.sessions) as session:
        for card in gallery.cards:
            stored = session.execute(
                text("SELECT top_images FROM latent WHERE analysis_id = :a AND basis = 'sae' AND latent = :l"),
                {"a": analysis.id, "l": card.latent},
            ).scalar_one()
            assert [(one.image, one.path) for one in card.images] == [(top["image"], top["path"]) for top in stored[:4]]
    page = gallery._repr_html_()
    assert page.count("<img") == sum(len(card.images) for card in gallery.cards) > 0
    assert all(card.title in page for card in gallery.cards)
    assert all("by a shuffled tree" in card.scores for card in gallery.cards)
    assert gallery.to_image().height > 3 * 128


def test_it_is_written_as_a_picture(analysis, tmp_path):
    gallery = analysis.show(0, n=2)
    path = gallery.save(tmp_path / "grid.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
    with pytest.raises(hsae.UserError, match="its ending names no format"):
        gallery.save(tmp_path / "grid.nothing")
    with pytest.raises(hsae.UserError, match="cannot be written"):
        gallery.save(tmp_path / "absent" / "grid.png")


def test_a_latent_that_is_not_there(analysis):
    with pytest.raises(hsae.UserError, match=f"there is no latent 5000: analysis {analysis.id} has 0 to 767"):
        analysis.show([0, 5000])


def test_where_no_latent_fits_it_says_what_was_asked(analysis):
    for latents, words in (
        (
            analysis.latents(under="entity.n.01", min_f1=2.0).latent[:8],
            "latents(under='entity.n.01', basis='sae', min_f1=2.0)",
        ),
        (analysis.latents(max_q=-1.0, used=True), "latents(basis='sae', max_q=-1.0, used=True)"),
        (analysis.nodes(min_f1=2.0), "nodes(basis='sae', min_f1=2.0)"),
        ([], "an empty list of latents"),
    ):
        gallery = analysis.show(latents)
        for said in (unescape(gallery._repr_html_()), repr(gallery)):
            assert "No latent fits" in said
            assert f"Analysis {analysis.id}: topk SAE" in said
            assert words in said
        assert gallery.to_image().width > 300
    assert "No latent fits" not in analysis.show(0)._repr_html_()
    assert Gallery((), 8, asked="<script>")._repr_html_().count("&lt;script&gt;") == 1


def test_without_maps_it_says_so(analysis):
    with pytest.raises(hsae.UserError, match=f"analysis {analysis.id} has no relevancy maps: submit"):
        analysis.show([0], maps=True)


def test_a_root_that_is_not_mounted_gives_a_placeholder_that_names_it(analysis, studied):
    with transaction(studied.sessions) as session:
        row = session.get_one(Dataset, analysis.about["dataset_id"])
        root, row.root = row.root, "/not/mounted/here"
    try:
        gallery = analysis.show(analysis.latents(min_f1=0.3).latent[:1], n=2)
        page = gallery._repr_html_()
        assert "<img" not in page
        assert "/not/mounted/here" in page
        assert gallery.to_image().size[0] > 0
    finally:
        with transaction(studied.sessions) as session:
            session.get_one(Dataset, analysis.about["dataset_id"]).root = root


def webp(colour: str) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(written, "WEBP", lossless=True)
    return written.getvalue()


def test_labels_and_paths_are_escaped():
    evil = '<script>alert("x")</script>'
    row = {"synset": evil, "f1_adjusted": 0.5, "f1_adjusted_shuffled": 0.1, "q": 0.01, "coherence_excess": None,
           "n_fire": 3, "text_name": evil}  # fmt: skip
    images = (ShownImage(0, f'"{evil}.png', 1.0, webp("red"), None), ShownImage(1, "gone.png", 1.0, None, evil))
    page = Gallery((LatentCard(7, row, images),), 8)._repr_html_()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 2  # label and name
    assert '"&quot;' not in page.replace('title="&quot;', "")  # no attribute ends early


def test_maps_stand_beside_their_images():
    values = np.array([[0.0, 0.0], [0.0, 1.0]], np.float32)
    image = ShownImage(0, "a.png", 1.0, webp("white"), None, Relevancy(values, WHOLE, "chefer"))
    row = {"synset": None, "f1_adjusted": None, "f1_adjusted_shuffled": None, "q": None, "coherence_excess": None,
           "n_fire": 1, "text_name": None}  # fmt: skip
    gallery = Gallery((LatentCard(7, row, (image,)),), 8)
    assert gallery._repr_html_().count("<img") == 2
    assert gallery.to_image().size[0] >= 16


@pytest.fixture
def mapped(analysis, studied):
    """A latent with a map of its strongest image by each of two formulas; the second image has none."""
    latent = int(analysis.latents().query("n_fire >= 2").latent.iloc[0])
    top = analysis.show(latent, n=2).cards[0].images
    maps = {"chefer": torch.eye(4).half().view(1, 4, 4), "gradcam": torch.ones(1, 4, 4).half()}
    stored = put_tensors(studied.store, maps_key("planted"), maps, {})
    with transaction(studied.sessions) as session:
        row = MapSet(key="planted", analysis_id=analysis.id, job_id=1, config={}, n_latents=1, n_maps=2, n_undefined=1,
                     n_patch_rows=4, n_patch_cols=4, maps_sha256=stored.sha256)  # fmt: skip
        session.add(row)
        session.flush()
        for method, rank, index in (("chefer", 1, 0), ("gradcam", 1, 0), ("chefer", 2, None)):
            image = top[rank - 1]
            session.add(LatentMap(map_set_id=row.id, method=method, latent=latent, rank=rank, image=image.image,
                                  path=image.path, activation=1.0, map_index=index))  # fmt: skip
        number = row.id
    yield latent
    with transaction(studied.sessions) as session:
        session.delete(session.get_one(MapSet, number))


def test_stored_maps_are_shown_by_the_first_formula(analysis, mapped):
    first, second = analysis.show([mapped], n=2, maps=True).cards[0].images
    assert first.relevancy.method == "chefer"
    assert np.array_equal(first.relevancy.values, np.eye(4))
    assert second.relevancy is None
    assert (first.no_map, second.no_map) == (None, "the relevancy map is undefined: no value of it is above 0")
    assert analysis.show([mapped], n=2, maps=True)._repr_html_().count("<img") == 3
    assert all(image.relevancy is None for image in analysis.show([mapped], n=2).cards[0].images)


def test_latents_without_maps_stand_beside_those_with(analysis, mapped):
    other = int(analysis.latents().query("n_fire >= 2 and latent != @mapped").latent.iloc[0])
    for latents in ([mapped, other], [other]):
        gallery = analysis.show(latents, n=2, maps=True)
        assert {image.no_map for image in gallery.cards[-1].images} == {"no relevancy map was made of this image"}
        assert "no relevancy map was made of this image" in gallery._repr_html_()
        assert gallery.to_image().size[0] >= 4 * 128
