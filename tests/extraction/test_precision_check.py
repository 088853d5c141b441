"""bfloat16 is compared with float32 before the first batch, and refused where it is too far off."""

import pytest
import torch

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.demo import backbone_folder
from hsae.errors import UserError
from hsae.extraction import precision_check
from hsae.extraction.batches import Batch
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.precision_check import precision_checked

BFLOAT16 = ExtractionConfig(batch_size=4, precision="bfloat16")


@pytest.fixture(scope="module")
def narrow() -> Backbone:
    spec = inspect_backbone(str(backbone_folder()))
    return Backbone.load(spec, layers=(0, 3), device=torch.device("cpu"), precision="bfloat16")


def batches_of(backbone: Backbone, *sizes: int) -> list[Batch]:
    height, width = backbone.preprocessing.image_size
    pixels = torch.rand(max(sizes), 3, height, width)
    return [Batch(tuple(range(n)), ("",) * n, (pixels[:n],) if n else (), ()) for n in sizes]


def test_the_batches_pass_and_the_first_with_images_is_compared(
    narrow: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    plain = Backbone.activations_in

    def noted(self, precision, pixels, tokens):
        asked.append((precision, len(pixels)))
        return plain(self, precision, pixels, tokens)

    monkeypatch.setattr(Backbone, "activations_in", noted)
    given = batches_of(narrow, 0, 2, 4)
    assert list(precision_checked(iter(given), narrow, BFLOAT16)) == given
    assert asked == [("bfloat16", 2), ("float32", 2)]
    assert list(precision_checked(iter(given), narrow, ExtractionConfig())) == given
    assert len(asked) == 2


def test_what_is_too_far_off_is_one_line(narrow: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Backbone.activations_in

    def turned(self, precision, pixels, tokens):
        found = plain(self, precision, pixels, tokens)
        return {**found, 3: found[3].flip(-1)} if precision == "bfloat16" else found

    monkeypatch.setattr(Backbone, "activations_in", turned)
    words = r"layer 3 of .* in bfloat16 .* 0\.999: submit with --compute-dtype float32"
    with pytest.raises(UserError, match=words) as info:
        list(precision_checked(iter(batches_of(narrow, 2)), narrow, BFLOAT16))
    assert "\n" not in str(info.value)


def test_a_model_that_gives_nan_anyway_is_told_later(narrow: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backbone, "activations_in", lambda *_: {0: torch.full((2, 1, 3), torch.nan)})
    given = batches_of(narrow, 2)
    assert list(precision_checked(iter(given), narrow, BFLOAT16)) == given
    assert precision_check.MIN_COSINE == 0.999
