"""What the tests of the data sets share."""

from pathlib import Path

import pytest
from tests.datasets.small_images import CAT, add_image

from hsae.taxonomy import Taxonomy, load_taxonomy


@pytest.fixture(scope="session")
def wordnet() -> Taxonomy:
    return load_taxonomy()


@pytest.fixture
def pets(tmp_path) -> Path:
    """Two classes, three images."""
    root = tmp_path / "pets"
    add_image(root / "dog.n.01" / "b.png", 1)
    add_image(root / "dog.n.01" / "a.JPEG", 2)
    add_image(root / CAT / "c.webp", 3)
    return root
