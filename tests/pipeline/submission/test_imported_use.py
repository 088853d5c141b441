"""What a submit says of an imported SAE that was trained on another model or on other tokens."""

import pytest
from tests.small import small_request

from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.submission.imported_use import imported_notes
from hsae.sae.config import SaeConfig
from hsae.sae.origin import SaeOrigin


def request_of(*, tokens="cls", trained_on=None, **origin):
    given = {
        "tokens": trained_on,
        "name": "peer",
        "format": "saelens",
        "key": "0" * 64,
        "d_model": 192,
        "n_latents": 500,
        **origin,
    }
    sae = SaeConfig(kind="topk", k=4, imported=SaeOrigin(**given))
    return small_request(saes=(SaeConfig(kind="topk", k=4), sae), extraction=ExtractionConfig(tokens=tokens))


def test_files_that_say_nothing_are_believed():
    assert imported_notes(request_of(), "facebook/dinov2-small") == []


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("facebook/dinov2-small", "facebook/dinov2-small"),
        ("facebook/DINOv2-small", "/models/dinov2-small/"),
        ("timm:vit_base_patch14_dinov2", "timm:vit_base_patch14_dinov2"),
        ("open-clip:laion/CLIP-ViT-B-32", "laion/CLIP-ViT-B-32"),
    ],
)
def test_the_same_model_by_another_way_is_the_same(theirs, ours):
    assert imported_notes(request_of(model=theirs), ours) == []


def test_another_model_and_other_tokens_are_said():
    request = request_of(model="openai/clip-vit-base-patch32", tokens="cls")
    (note,) = imported_notes(request, "facebook/dinov2-base")
    assert note.startswith("the imported SAE peer was trained on openai/clip-vit-base-patch32, as its files say, and")
    request = request_of(trained_on="patches", tokens="cls")
    (note,) = imported_notes(request, "facebook/dinov2-base")
    assert "was trained on patches tokens" in note
    assert note.endswith("applied to cls: --tokens patches gives it those")
