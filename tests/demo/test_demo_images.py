"""The bundled images as the demo registers them."""

from hsae.cli.demo import request
from hsae.datasets import scan
from hsae.datasets.split import split_images
from hsae.demo import images_folder, images_listing
from hsae.taxonomy import load_taxonomy


def test_the_listing_has_every_bundled_image_with_its_style():
    images = scan(images_listing(), load_taxonomy())
    root = images_folder().parent
    assert images.listing["path"].to_pylist() == sorted(
        path.relative_to(root).as_posix() for path in images_folder().glob("*/*.webp")
    )
    columns = (images.listing[name].to_pylist() for name in ("path", "class_id", "group"))
    for path, class_id, group in zip(*columns, strict=True):
        assert path.split("/")[1] == class_id
        assert path.split(".")[-2] == group
    assert len(images.class_ids) == 376


def test_whole_styles_are_scored_and_they_have_every_class():
    images = scan(images_listing(), load_taxonomy())
    split = split_images(images.listing, request().split)
    styles = set(zip(images.listing["group"].to_pylist(), split.part.tolist(), strict=True))
    assert len(styles) == 5
    assert dict(styles) == {
        "fluent-emoji-flat": 0, "fluent3d": 0, "fxemoji": 0, "fluent-emoji": 1, "noto": 2,
    }  # fmt: skip
    assert split.by == "groups"
    assert not split.notes()
