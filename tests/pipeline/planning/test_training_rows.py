"""When a submit says that an SAE has more latents than rows to train on."""

import pytest

from hsae.backbones.inspection import inspect_backbone
from hsae.demo import backbone_folder
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.planning.requests import SubmitRequest
from hsae.pipeline.planning.training_rows import few_rows_warning
from hsae.sae.config import SaeConfig


@pytest.fixture(scope="module")
def spec():
    """192 dimensions, so that the default SAE has 1,536 latents."""
    return inspect_backbone(str(backbone_folder()))


def request_of(*saes: SaeConfig, **extraction: object) -> SubmitRequest:
    return SubmitRequest(model="any", layers=(1,), saes=saes, extraction=ExtractionConfig(**extraction))


@pytest.mark.parametrize(
    ("n_images", "sae", "extraction", "is_warned"),
    [
        (1706, {}, {}, True),  # 171 are held out
        (1707, {}, {}, False),
        (1535, {"holdout_share": 0.0}, {}, True),
        (1536, {"holdout_share": 0.0}, {}, False),
        (214, {"expansion": 1}, {}, False),
        (213, {"expansion": 1}, {}, False),
        (212, {"expansion": 1}, {}, True),
        (854, {}, {"n_views": 2}, False),
        (853, {}, {"n_views": 2}, False),
        (852, {}, {"n_views": 2}, True),
    ],
)
def test_rows_are_counted_without_the_held_out_images_and_with_all_views(spec, n_images, sae, extraction, is_warned):
    assert bool(few_rows_warning(request_of(SaeConfig(**sae), **extraction), spec, n_images)) == is_warned


def test_each_patch_is_a_row(spec):
    request = request_of(SaeConfig(), tokens="patches")
    assert spec.n_patches == 64
    assert few_rows_warning(request, spec, 27) is None  # 3 images are held out
    assert few_rows_warning(request, spec, 26) is not None


def test_the_warning_says_what_to_do(spec):
    warning = few_rows_warning(request_of(SaeConfig()), spec, 500)
    assert warning == (
        "450 training rows are fewer than the 1536 latents of relu SAE x8, which can learn images by heart: take more"
        " images or --expansion 2 or less or --views 4 (augmented images)"
    )
    for remedy in (request_of(SaeConfig(expansion=2)), request_of(SaeConfig(), n_views=4)):
        assert few_rows_warning(remedy, spec, 500) is None
    assert few_rows_warning(request_of(SaeConfig(), n_views=3), spec, 500) is not None


def test_of_several_saes_the_worst_is_named(spec):
    saes = [SaeConfig(kind="topk", expansion=expansion) for expansion in (1, 8, 4)]
    warning = few_rows_warning(request_of(*saes), spec, 500)
    assert warning is not None
    assert "1536 latents of topk SAE x8 (and so for 1 more of the 3 SAEs)" in warning


def test_only_remedies_that_help_are_named(spec):
    warning = few_rows_warning(request_of(SaeConfig(expansion=1)), spec, 3)
    assert warning is not None
    assert "--expansion" not in warning
    assert "--views" not in warning  # 96 would be needed, and 64 are the most
