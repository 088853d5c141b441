"""The grid of images: what it shows, what it says where it cannot, and that it lets nothing through."""

import io
from html import escape, unescape

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

import hsae
from hsae.api.shown.cards import LatentCard, Relevancy, ShownImage
from hsae.api.shown.gallery import Gallery
from hsae.catalog import Dataset, transaction

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
        (said,) = {image.no_map for image in gallery.cards[-1].images}
        assert said.startswith("no relevancy map was made of this latent: submit the same study with a greater latents")
        assert escape(said) in gallery._repr_html_()
        assert gallery.to_image().size[0] >= 4 * 128


def test_an_image_without_a_map_says_how_to_make_one(analysis, mapped):
    images = analysis.show([mapped], n=8, maps=True).cards[0].images
    assert len(images) > 2, "the fixture made maps of two"
    (said,) = {image.no_map for image in images[2:]}
    assert said.startswith("no relevancy map was made of this image: submit the same study with a greater images")


def test_latents_with_maps_are_listed(analysis, mapped):
    assert list(analysis.latents(mapped=True).latent) == [mapped]
    assert len(analysis.latents(mapped=True, basis="random")) == 0
    assert "mapped=True" in repr(analysis.show(analysis.latents(mapped=True, min_f1=2.0)))
