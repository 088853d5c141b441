"""Zero-shot reading of the bundled CLIP: the same as transformers' own, and mostly right on images of its training."""

import csv
import re

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


def test_the_card_s_accuracy_on_the_style_that_training_never_saw():
    """By the script's definition: among all classes, the nearest text of one template with the first lemma.

    One image may fall on another side on another processor.
    """
    with images_listing().open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    wnids = sorted({row["label"] for row in rows})
    held_out = [row for row in rows if row["group"] == "fxemoji"]
    lemmas = {synset.id: synset.lemmas[0] for synset in induce(_load_taxonomy(None), wnids).synsets}
    model = transformers.CLIPModel.from_pretrained(clip_folder(), dtype=torch.float32).eval()
    processor, tokenizer = (
        kind.from_pretrained(clip_folder()) for kind in (transformers.AutoImageProcessor, transformers.AutoTokenizer)
    )
    texts = [f"a drawing of a {lemmas[wnid].replace('_', ' ')}" for wnid in wnids]
    pictures = [Image.open(images_listing().parent / row["path"]) for row in held_out]
    with torch.no_grad():
        seen = model.get_image_features(**processor(images=pictures, return_tensors="pt")).pooler_output
        given = tokenizer(texts, padding=True, return_tensors="pt")
        said = model.get_text_features(given["input_ids"], attention_mask=given["attention_mask"]).pooler_output
    cosine = torch.nn.functional.normalize(seen, dim=1) @ torch.nn.functional.normalize(said, dim=1).T
    ranks = [int((row > row[wnids.index(image["label"])]).sum()) for row, image in zip(cosine, held_out, strict=True)]
    card = (clip_folder() / "README.md").read_text()
    one_image = 100 / len(held_out) + 0.05
    for name, most in (("nearest text", 1), ("among the five nearest", 5)):
        stated = float(re.search(rf"^\| {name} \| [\d.]+ % \| ([\d.]+) % \|", card, re.MULTILINE)[1])
        assert 100 * np.mean([rank < most for rank in ranks]) == pytest.approx(stated, abs=one_image)
    assert f"The style `fxemoji` ({len(held_out)} images) was held out" in card
    assert f"Zero-shot over the {len(wnids)} classes" in card


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
