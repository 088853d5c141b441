"""What a config writes of itself, and what a user's words become."""

import pytest
from pydantic import ValidationError

from hsae.extraction import config as config_module
from hsae.extraction.config import ExtractionConfig, chosen_precision, complete_extraction


def test_settings_that_came_later_are_written_only_where_they_are_not_the_default():
    assert {"precision", "part_images", "decode"}.isdisjoint(ExtractionConfig().model_dump())
    config = ExtractionConfig(precision="tf32", part_images=8, decode="scaled")
    assert (config.model_dump()["precision"], config.model_dump()["decode"]) == ("tf32", "scaled")
    assert ExtractionConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("asked", "stored", "has_bfloat16", "precision"),
    [
        ("float32", "bfloat16", True, "float32"),
        ("tf32", "float32", True, "tf32"),
        ("auto", "float32", False, "float32"),
        ("auto", "float32", True, "bfloat16"),
        ("auto", "bfloat16", False, "bfloat16"),
    ],
)
def test_the_precision_that_was_asked_for(asked, stored, has_bfloat16, precision, monkeypatch):
    monkeypatch.setattr(config_module, "processor_has_bfloat16", lambda: has_bfloat16)
    assert chosen_precision(asked, stored) == precision
    given = {"dtype": stored, "precision": chosen_precision(asked, stored)}
    assert complete_extraction(given, max_image_pixels=10**6).precision == precision


def test_images_at_once():
    assert ExtractionConfig(batch_size=8).images_at_once == 8
    assert ExtractionConfig(batch_size=8, part_images=3).images_at_once == 3
    assert ExtractionConfig(batch_size=8, part_images=30).images_at_once == 8
    with pytest.raises(ValidationError):
        ExtractionConfig(part_images=0)
