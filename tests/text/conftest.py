"""The bundled CLIP's text tower, and a small taxonomy whose heights are known by heart."""

import pytest
import torch

from hsae.demo import clip_folder
from hsae.taxonomy import induce, load_taxonomy
from hsae.text.models import find_text_model
from hsae.text.tower import TextTower


@pytest.fixture(scope="package")
def text_model():
    return find_text_model(str(clip_folder()))


@pytest.fixture(scope="package")
def tower(text_model):
    return TextTower.load(text_model, torch.device("cpu"))


@pytest.fixture(scope="package")
def taxonomy(tmp_path_factory):
    """animal (2) over bird (1: owl, hen) and fish (1: shark, cod); rock (0) beside it under thing (3)."""
    path = tmp_path_factory.mktemp("tree") / "tree.csv"
    edges = "animal,thing rock,thing bird,animal fish,animal owl,bird hen,bird shark,fish cod,fish"
    path.write_text("child,parent\n" + "\n".join(edges.split()) + "\n")
    return induce(load_taxonomy(path), ["owl", "hen", "shark", "cod", "rock"])
