"""The planted model and its tree."""

import pytest
from tests.interventions.planted import CLASSES, EDGES, Planted, planted

from hsae.taxonomy import induce, load_taxonomy


@pytest.fixture(scope="session")
def small_taxonomy(tmp_path_factory):
    path = tmp_path_factory.mktemp("taxonomy") / "tree.csv"
    path.write_text("child,parent\n" + "".join(f"{child},{parent}\n" for child, parent in EDGES))
    return induce(load_taxonomy(path), CLASSES)


@pytest.fixture(scope="session")
def model(small_taxonomy) -> Planted:
    return planted(small_taxonomy)
