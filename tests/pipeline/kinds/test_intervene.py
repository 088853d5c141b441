"""Settings of interventions: what is refused, what counts in the key, and the literal keys of stored sets."""

import pytest
from pydantic import ValidationError
from tests.pipeline.kinds.test_golden_keys import _DATASET, _MODEL, _SAE

from hsae.extraction.config import ExtractionConfig
from hsae.interventions.config import CONTROLS, InterveneSettings
from hsae.pipeline.kinds.interventions.intervene import INTERVENE, EditedLayer, InterveneRequest
from hsae.split_config import SplitConfig


def request_of(settings, **changes):
    values = {
        "analysis_key": "7" * 64, "sae_key": _SAE, "activation_key": "6" * 64, "model": _MODEL, "layer": 8,
        "dataset": _DATASET, "extraction": ExtractionConfig(), "intervene": settings,
    }  # fmt: skip
    return InterveneRequest(**{**values, **changes})


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (InterveneSettings(nodes=("bird.n.01",)), "49a709a2490471063000848310e2f8a4e04e7ef6a1d1ffdde80955c07da77f1c"),
        (
            InterveneSettings(
                nodes=("bird.n.01", "dog.n.01"), choose="attribution", edit="add", doses=(-2, 2), tokens=(0, 5), seed=3
            ),
            "52f3c72a1a637222ffae6a4b22be03f0bb74844fbcbcff606d045d542a5b19a6",
        ),
    ],
)
def test_golden_keys(settings, key):
    request = request_of(settings)
    assert request.key == key
    assert InterveneRequest.model_validate(request.model_dump(mode="json")) == request
    # The analysis' key stands for these.
    assert request_of(settings, layer=3, split=SplitConfig(), activation_key="5" * 64).key == key


def test_golden_key_of_another_precision_and_in_parts():
    settings = InterveneSettings(nodes=("bird.n.01",))
    other = request_of(settings, extraction=ExtractionConfig(precision="bfloat16", part_images=4))
    assert other.key == "e4896e3b669cc4f2c3332119942a1d9ec0fc6c1a3ad8780d3af042d35490dee4"
    assert {"precision": "bfloat16", "part_images": 4}.items() <= other.config.items()
    plain = request_of(settings)
    assert {"precision", "part_images"}.isdisjoint(plain.config)
    # Parts that are no smaller than a batch are none.
    assert request_of(settings, extraction=ExtractionConfig(part_images=settings.batch_size)).key == plain.key


def edited(layer, digit):
    return EditedLayer(layer=layer, analysis_key=digit * 64, sae_key="b" * 64, activation_key="c" * 64)


def test_golden_key_of_several_layers():
    settings = InterveneSettings(nodes=("bird.n.01",), layers="together")
    together = request_of(settings, others=(edited(3, "8"), edited(5, "9")))
    assert together.key == "772e92ac2849393f837f2331e1a6254b47227dddebc187dda7ed8220c407a372"
    assert InterveneRequest.model_validate(together.model_dump(mode="json")) == together
    assert [one.layer for one in together.edited] == [3, 5, 8]
    assert INTERVENE.needs(together) == ("8" * 64, "9" * 64, "7" * 64)
    # Jobs that earlier versions entered know no other layers.
    alone = request_of(InterveneSettings(nodes=("bird.n.01",)))
    stored = alone.model_dump(mode="json")
    del stored["others"], stored["intervene"]["layers"]
    assert InterveneRequest.model_validate(stored) == alone
    assert INTERVENE.needs(alone) == ("7" * 64,)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"choose": "given", "latents": (3,)}, "`choose: given` are of one SAE, and `layers: together` edits several"),
        ({"label_effects": 3}, r"single latents \(label_effects\) are those of one layer: leave them out, or"),
        ({"steer": 3, "label_effects": 3}, r"single latents \(label_effects, steer\) are those of one layer"),
    ],
)
def test_what_is_of_one_layer_is_refused_for_several(given, line):
    with pytest.raises(ValidationError, match=line):
        InterveneSettings(nodes=("a",), layers="together", **given)
    InterveneSettings(nodes=("a",), **given)


def test_the_same_choices_have_the_same_key():
    one = InterveneSettings(nodes=("a",), readouts=("knn", "probe"), controls=("leace", "random"), doses=(0, 0.5, 0))
    other = InterveneSettings(nodes=("a",), readouts=("probe", "knn"), controls=("random", "leace"), doses=(0, 0.5))
    assert request_of(one).key == request_of(other).key
    # Controls that an edit does not have are not made.
    added = InterveneSettings(nodes=("a",), edit="add", controls=CONTROLS)
    assert added.controls == ("random",)
    assert request_of(added).key == request_of(InterveneSettings(nodes=("a",), edit="add", controls=("random",))).key


@pytest.mark.parametrize(
    "given",
    [
        {"doses": (float("inf"),)},
        {"doses": ()},
        {"choose": "given"},
        {"latents": (3,)},
        {"choose": "given", "latents": (-1,)},
        {"quantile": 0.5},
        {"readouts": ("clip",)},
        {"tokens": "registers"},
        {"max_density": 0},
    ],
)
def test_what_cannot_be_is_refused(given):
    with pytest.raises(ValidationError):
        InterveneSettings(nodes=("a",), **given)


def test_only_a_study_that_names_nodes_asks_for_interventions():
    assert not INTERVENE.is_wanted({})
    assert not INTERVENE.is_wanted({"intervene": InterveneSettings()})
    assert INTERVENE.is_wanted({"intervene": InterveneSettings(nodes=("a",))})
