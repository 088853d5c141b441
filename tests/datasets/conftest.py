"""What the tests of the data sets share."""

import pytest

from hsae.taxonomy import Taxonomy, load_taxonomy


@pytest.fixture(scope="session")
def wordnet() -> Taxonomy:
    return load_taxonomy()
