"""The bundled backbone, loaded once, and some bundled images as a data set's listing has them."""

import hashlib
from pathlib import Path

import pytest
import torch

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.demo import backbone_folder, images_folder
from hsae.extraction.listed import ListedImage

LAYERS = (1, 3)


def listing_of(root: Path, paths: list[str]) -> list[ListedImage]:
    """What a registered data set says of the files at `root / path`, in that order."""
    return [
        ListedImage(image, path, hashlib.sha256((root / path).read_bytes()).hexdigest())
        for image, path in enumerate(paths)
    ]


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """The bundled backbone up to its fourth block."""
    spec = inspect_backbone(str(backbone_folder()))
    return Backbone.load(spec, layers=LAYERS, device=torch.device("cpu"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of a test's own with nine bundled images, 0.webp to 8.webp."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, source in enumerate(sorted(images_folder().glob("*/*.webp"))[:9]):
        (folder / f"{number}.webp").write_bytes(source.read_bytes())
    return folder


@pytest.fixture
def listed(images: Path) -> list[ListedImage]:
    """The listing of `images`."""
    return listing_of(images, [f"{number}.webp" for number in range(9)])
