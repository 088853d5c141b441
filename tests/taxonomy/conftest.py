"""What the tests of the taxonomies share."""

import zipfile
from importlib import resources

import pytest

from hsae.taxonomy import Taxonomy, load_taxonomy


@pytest.fixture(scope="session")
def wordnet() -> Taxonomy:
    return load_taxonomy()


@pytest.fixture(scope="session")
def noun_files() -> dict[str, bytes]:
    """The shipped noun database, file by file."""
    folder = resources.files("hsae.taxonomy") / "wordnet"
    with (folder / "wordnet-3.0-nouns.zip").open("rb") as stream, zipfile.ZipFile(stream) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
