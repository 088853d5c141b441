"""Names by text as requests: which method is taken, what counts in the key, and the literal keys of stored sets."""

import pytest
from tests.pipeline.kinds.test_golden_keys import _DATASET, _MODEL, _SAE

from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.kinds.text.names import NAME, NameRequest
from hsae.split_config import SplitConfig
from hsae.text.config import NameSettings

CLIP = _MODEL.model_copy(update={"name": "openai/clip-vit-base-patch32", "model_type": "clip_vision_model"})
BY_CLIP = NameSettings(by=CLIP.name, revision=CLIP.revision)


def request_of(settings=BY_CLIP, **changes):
    values = {
        "analysis_key": "7" * 64, "sae_key": _SAE, "model": CLIP, "layer": 8, "dataset": _DATASET,
        "extraction": ExtractionConfig(), "names": settings,
    }  # fmt: skip
    return NameRequest(**{**values, **changes})


def test_golden_keys():
    request = request_of()
    assert request.key == "3173096181ec14127a88874a29db60918d8bbdeda85d82b360f9f70c9f17f401"
    assert NameRequest.model_validate(request.model_dump(mode="json")) == request
    # The analysis' key stands for these, and the revision for the model's place.
    assert request_of(layer=3, split=SplitConfig()).key == request.key
    moved = BY_CLIP.model_copy(update={"by": "/models/clip", "vocabulary": "other.txt"})
    assert request_of(moved).key == request.key
    words = BY_CLIP.model_copy(update={"vocabulary": "words.txt", "words": ("dog", "cat"), "seed": 3})
    assert request_of(words).key == "0aebac81f8942a69697106fd68b3af9a18b52d4c887b4b9e9b471669bfc7c55f"
    assert "words" not in request_of(words).config


@pytest.mark.parametrize(
    ("extraction", "fields"),
    [
        ({"part_images": 32}, {}),
        ({"part_images": 4}, {"part_images": 4}),
        ({"precision": "bfloat16"}, {"precision": "bfloat16"}),
        ({"decode": "scaled"}, {"decode": "scaled"}),
        ({"precision": "bfloat16", "part_images": 4, "hook": "embedding"}, {}),  # no image is looked at
    ],
)
def test_precision_parts_and_decoding_are_those_of_the_extraction(extraction, fields):
    """They decide digits, so they are in key and row; at their defaults the keys of before stay."""
    request = request_of(extraction=ExtractionConfig(**extraction))
    assert request.of_the_pass() == fields
    assert (request.key == request_of().key) == (not fields)
    assert request.config == request_of().config | fields
    assert request.images_at_once == fields.get("part_images", extraction.get("part_images", 32))


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({}, "effect"),
        ({"extraction": ExtractionConfig(hook="embedding")}, "direction"),
        ({"extraction": ExtractionConfig(tokens="patches")}, "effect"),
        ({"extraction": ExtractionConfig(tokens="registers")}, "images"),
        ({"extraction": ExtractionConfig(hook="mlp")}, "images"),
        ({"model": _MODEL}, "images"),
        ({"model": CLIP.model_copy(update={"revision": "0" * 40})}, "images"),
    ],
)
def test_the_method_follows_from_the_place_of_the_sae(changes, method):
    assert request_of(**changes).method == method


def test_only_a_study_that_names_a_model_asks_for_names():
    assert not NAME.is_wanted({})
    assert not NAME.is_wanted({"names": NameSettings()})
    assert NAME.is_wanted({"names": BY_CLIP})
