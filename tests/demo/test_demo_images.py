"""The bundled images as the demo registers them."""

from hsae.cli.demo import request
from hsae.datasets import scan
from hsae.datasets.split import SCORE, SELECT, TRAIN, split_images
from hsae.demo import backbone_folder, images_folder, images_listing
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


def test_the_style_that_the_backbone_never_saw_is_scored():
    images = scan(images_listing(), load_taxonomy())
    split = split_images(images.listing, request().split)
    styles = set(zip(images.listing["group"].to_pylist(), split.part.tolist(), strict=True))
    assert len(styles) == 5
    assert dict(styles) == {
        "fluent-emoji-flat": TRAIN, "fluent3d": TRAIN, "fluent-emoji": TRAIN, "noto": SELECT, "fxemoji": SCORE,
    }  # fmt: skip
    card = (backbone_folder() / "README.md").read_text()
    assert "The style `fxemoji` (183 images of\n171 of the synsets) was held out completely" in card
    assert split.by == "groups"
    (note,) = split.notes()
    assert note.startswith("205 classes have no scored image")
