"""Zero-shot reading of the bundled CLIP: the same as transformers' own, and mostly right on images of its training."""

import csv

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tests.small import _load_taxonomy

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.demo import clip_folder, images_listing
from hsae.errors import UserError
from hsae.pipeline.stages.text.embedding import load_embedding
from hsae.taxonomy import Synset, induce
from hsae.text.config import TEMPLATES
from hsae.text.vocabulary import entry_of
from hsae.text.zero_shot import zero_shot_readout

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shown():
    """Some drawings of 20 classes, and the classes."""
    with images_listing().open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["group"] == "noto"]
    wnids = sorted({row["label"] for row in rows})[:20]
    chosen = [next(row for row in rows if row["label"] == wnid) for wnid in wnids]
    pictures = [Image.open(images_listing().parent / row["path"]).convert("RGB") for row in chosen]
    taxonomy = induce(_load_taxonomy(None), wnids)
    return pictures, [taxonomy.synsets[node] for node in taxonomy.classes.tolist()]


def test_logits_are_those_of_the_whole_model(shown, tower, text_model):
    pictures, classes = shown
    spec = inspect_backbone(text_model.name)
    backbone = Backbone.load(spec, layers=(spec.n_layers - 1,), device=CPU)
    stream = backbone.recorded(backbone.pixel_values(pictures)).streams[spec.n_layers - 1]
    final = load_embedding(text_model.name, text_model.revision, CPU, None)
    reading = zero_shot_readout(tower, final.embedding_of, classes, CPU).read(stream)
    model = transformers.CLIPModel.from_pretrained(clip_folder(), dtype=torch.float32).eval()
    with torch.no_grad():
        image = model.get_image_features(pixel_values=backbone.pixel_values(pictures)).pooler_output
    texts = [
        [text for text in entry_of(synset, 0).texts(TEMPLATES) if any(
            tower.knows(word) and word in text for word in entry_of(synset, 0).synonyms)]
        for synset in classes
    ]  # fmt: skip
    expected = torch.nn.functional.normalize(image, dim=1) @ tower.ensembled(texts).T * model.logit_scale.exp()
    np.testing.assert_allclose(reading.logits, expected.detach(), atol=0.05)
    assert (reading.predicted == np.arange(len(classes))).mean() > 0.5


def test_classes_of_which_no_word_is_known(tower):
    unknown = [Synset(f"x{number}", f"qqqq{number}", (f"qqqq{number}",), "") for number in range(3)]
    dog = Synset("dog", "dog", ("dog",), "")
    with pytest.raises(UserError, match=r"knows the words of 1 of the data set's 4 classes: leave the readout"):
        zero_shot_readout(tower, lambda stream: stream[:, 0], [dog, *unknown], CPU)
    cat = Synset("cat", "cat", ("cat",), "")
    readout = zero_shot_readout(tower, lambda stream: stream[:, 0], [dog, unknown[0], cat], CPU)
    reading = readout.read(torch.randn(40, 1, 64))
    assert set(reading.predicted.tolist()) == {0, 2}
    assert np.isneginf(reading.logits[:, 1]).all()
