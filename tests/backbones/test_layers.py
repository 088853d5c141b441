"""Every layer of every supported type against the model's own hidden states."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hsae.backbones.architectures import ARCHITECTURES, TOWERS
from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.spec import check_tokens, n_tokens
from hsae.errors import UserError

from .conftest import MODELS, N_SPECIAL, STAGED, edit_json, image_processor, new_model, random_images, randomise, save

CPU = torch.device("cpu")
FINAL_NORM = {
    "dinov3_vit": "norm",
    "clip_vision_model": None,  # its last_hidden_state comes before the norm
    "siglip_vision_model": "post_layernorm",
    "siglip2_vision_model": "post_layernorm",
}


def reference(
    kind: str, folder: Path, pixel_values: torch.Tensor, interpolate: bool
) -> tuple[tuple[torch.Tensor, ...], torch.nn.Module, torch.Tensor]:
    """The whole model's hidden states (0: before the first block), final norm and last hidden state."""
    model = getattr(transformers, MODELS[kind][1]).from_pretrained(folder, dtype=torch.float32).eval()
    flag = {"interpolate_pos_encoding": interpolate} if ARCHITECTURES[kind].interpolation_flag else {}
    with torch.no_grad():
        output = model(**inputs(kind, model, pixel_values), output_hidden_states=True, **flag)
    norm_name = FINAL_NORM.get(kind, "layernorm")
    norm = getattr(model, norm_name) if norm_name else torch.nn.Identity()
    return output.hidden_states, norm, output.last_hidden_state


def inputs(kind: str, model: torch.nn.Module, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the model is given by itself, made patch by patch."""
    if kind == "vit_mae":
        model.config.mask_ratio = 0.0
        n_patches = pixel_values[0, 0].numel() // 64
        return {"pixel_values": pixel_values, "noise": torch.linspace(0, 1, n_patches).repeat(len(pixel_values), 1)}
    if kind != "siglip2_vision_model":
        return {"pixel_values": pixel_values}
    side = pixel_values.shape[-1] // 8
    patches = [
        [image[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].permute(1, 2, 0).reshape(-1)
         for row in range(side) for column in range(side)]
        for image in pixel_values
    ]  # fmt: skip
    return {
        "pixel_values": torch.stack([torch.stack(rows) for rows in patches]),
        "pixel_attention_mask": torch.ones(len(pixel_values), side * side, dtype=torch.int64),
        "spatial_shapes": torch.tensor([[side, side]] * len(pixel_values)),
    }


def test_every_type_that_is_listed_is_tested() -> None:
    assert set(MODELS) | set(STAGED) == set(ARCHITECTURES)
    assert set(TOWERS.values()) <= set(MODELS)


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize("kind", MODELS)
def test_layers_are_the_hidden_states(
    kind: str, size: int, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = model_folder(kind)
    if size != 32:  # larger images than the model was made for: its position embeddings are interpolated
        folder = save(tmp_path, new_model(kind), image_processor(MODELS[kind][3], size))
    spec = inspect_backbone(str(folder))
    n_patches = (size // 8) ** 2
    n_special = N_SPECIAL.get(kind, 1)
    assert (spec.n_layers, spec.d_model, spec.n_patches, spec.n_prefix_tokens) == (4, 24, n_patches, n_special)
    assert spec.has_class_token == (n_special > 0)
    backbone = Backbone.load(spec, layers=range(4), device=CPU)
    pixel_values = backbone.pixel_values(random_images(3))
    assert pixel_values.shape == (3, 3, size, size)
    hidden_states, norm, last_hidden_state = reference(kind, folder, pixel_values, size != 32)
    patches = backbone.activations(pixel_values, "patches")
    mean = backbone.activations(pixel_values, "mean")
    for layer in range(4):
        assert patches[layer].shape == (3, n_patches, 24)
        assert mean[layer].shape == (3, 1, 24)
        assert patches[layer].dtype == mean[layer].dtype == torch.float32
        torch.testing.assert_close(mean[layer][:, 0], patches[layer].mean(1), rtol=0, atol=0)
        if layer < 3:
            torch.testing.assert_close(patches[layer], hidden_states[layer + 1][:, n_special:], rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(norm(patches[3]), last_hidden_state[:, n_special:], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(patches[3], patches[2])
    if n_special:
        cls = backbone.activations(pixel_values, "cls")
        for layer in range(3):
            torch.testing.assert_close(cls[layer], hidden_states[layer + 1][:, :1], rtol=0, atol=0)
        with torch.no_grad():
            torch.testing.assert_close(norm(cls[3]), last_hidden_state[:, :1], rtol=1e-5, atol=1e-5)
    else:
        with pytest.raises(UserError, match="has no class token: choose tokens mean or patches"):
            backbone.activations(pixel_values, "cls")


@pytest.mark.parametrize("kind", MODELS)
def test_a_layer_does_not_depend_on_the_others(kind: str, model_folder: Callable[[str], Path]) -> None:
    spec = inspect_backbone(str(model_folder(kind)))
    images = random_images(3)
    everything = Backbone.load(spec, layers=[3, 2, 1, 0], device=CPU)
    pixel_values = everything.pixel_values(images)
    expected = everything.activations(pixel_values, "patches")
    assert list(expected) == [0, 1, 2, 3]
    for layers in ([0], [1], [2], [3], [1, 2], [3, 0, 3]):
        backbone = Backbone.load(spec, layers=layers, device=CPU)
        assert backbone.layers == tuple(sorted(set(layers)))
        got = backbone.activations(pixel_values, "patches")
        assert set(got) == set(layers)
        for layer in got:
            assert torch.equal(got[layer], expected[layer])


@pytest.mark.parametrize("kind", [*MODELS, *STAGED])
def test_attention_is_that_of_pytorch(
    kind: str, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone.load(inspect_backbone(str(model_folder(kind))), layers=[1], device=CPU)
    plain, n_calls = torch.nn.functional.scaled_dot_product_attention, 0

    def counted(*given: Any, **named: Any) -> torch.Tensor:
        nonlocal n_calls
        n_calls += 1
        return plain(*given, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    backbone.activations(backbone.pixel_values(random_images(1)), "mean")
    assert n_calls == (0 if ARCHITECTURES[kind].attention is None else 2)


def test_deeper_blocks_are_not_loaded(model_folder: Callable[[str], Path]) -> None:
    spec = inspect_backbone(str(model_folder("dinov2")))
    n_parameters = [
        sum(each.numel() for each in Backbone.load(spec, layers=[layer], device=CPU)._model.parameters())
        for layer in range(4)
    ]
    steps = {after - before for before, after in itertools.pairwise(n_parameters)}
    assert len(steps) == 1
    assert steps.pop() > 0


def test_nothing_wants_a_gradient_and_nothing_is_random(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    model = new_model("dinov2", hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5, drop_path_rate=0.5)
    spec = inspect_backbone(str(save(tmp_path, model, image_processor("BitImageProcessorPil"))))
    backbone = Backbone.load(spec, layers=[3], device=CPU)
    pixel_values = backbone.pixel_values(random_images(2))
    first, second = (backbone.activations(pixel_values, "cls")[3] for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not first.is_inference()  # such a tensor could not be trained on


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_computed_in_float32(stored: torch.dtype, tmp_path: Path) -> None:
    model = new_model("dinov2").to(stored)
    spec = inspect_backbone(str(save(tmp_path, model, image_processor("BitImageProcessorPil"))))
    pixel_values = Backbone.load(spec, layers=[3], device=CPU).pixel_values(random_images(2))
    with torch.no_grad():
        expected = model.float()(pixel_values, output_hidden_states=True).hidden_states
    got = Backbone.load(spec, layers=[2], device=CPU).activations(pixel_values, "cls")[2]
    assert torch.equal(got, expected[3][:, :1])
    low = Backbone.load(spec, layers=[2], device=CPU, dtype=torch.bfloat16).activations(pixel_values, "cls")[2]
    assert low.dtype == torch.float32
    assert torch.equal(low, low.bfloat16().float())
    torch.testing.assert_close(low, got, rtol=0.1, atol=0.3)


@pytest.mark.parametrize("kind", TOWERS)
def test_the_vision_tower_of_an_image_and_text_model(kind: str, tmp_path: Path) -> None:
    tower = TOWERS[kind]
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 30,
    }
    config_class, model_class = {
        "clip": (transformers.CLIPConfig, transformers.CLIPModel),
        "siglip": (transformers.SiglipConfig, transformers.SiglipModel),
        "siglip2": (transformers.Siglip2Config, transformers.Siglip2Model),
    }[kind]
    model = randomise(model_class(config_class(text_config=text, vision_config=MODELS[tower][2])))
    spec = inspect_backbone(str(save(tmp_path, model, image_processor(MODELS[tower][3]))))
    assert (spec.model_type, spec.n_layers, spec.d_model) == (tower, 4, 24)
    backbone = Backbone.load(spec, layers=[1], device=CPU)
    pixel_values = backbone.pixel_values(random_images(2))
    with torch.no_grad():
        expected = model.vision_model(  # type: ignore[operator]
            **inputs(tower, model, pixel_values), output_hidden_states=True
        ).hidden_states[2]
    got = backbone.activations(pixel_values, "patches")[1]
    assert torch.equal(got, expected[:, spec.n_prefix_tokens :])


def test_a_classifier_is_read_as_its_backbone(tmp_path: Path) -> None:
    config = transformers.Dinov2Config(**MODELS["dinov2"][2], num_labels=3)  # type: ignore[call-arg]
    model = randomise(transformers.Dinov2ForImageClassification(config))
    spec = inspect_backbone(str(save(tmp_path, model, image_processor("BitImageProcessorPil"))))
    backbone = Backbone.load(spec, layers=[0], device=CPU)
    pixel_values = backbone.pixel_values(random_images(2))
    with torch.no_grad():
        expected = model(pixel_values, output_hidden_states=True).hidden_states[1]
    assert torch.equal(backbone.activations(pixel_values, "cls")[0], expected[:, :1])


def test_no_images_give_no_rows(model_folder: Callable[[str], Path]) -> None:
    backbone = Backbone.load(inspect_backbone(str(model_folder("dinov2"))), layers=[0], device=CPU)
    assert backbone.pixel_values([]).shape == (0, 3, 32, 32)


def test_images_of_any_mode_and_size(model_folder: Callable[[str], Path]) -> None:
    backbone = Backbone.load(inspect_backbone(str(model_folder("dinov2"))), layers=[0], device=CPU)
    image = random_images(1)[0]
    images = [image, image.convert("L"), image.convert("P"), image.resize((1, 90)), image.resize((400, 8))]
    pixel_values = backbone.pixel_values(images)
    assert pixel_values.shape == (5, 3, 32, 32)
    assert pixel_values.dtype == torch.float32
    assert torch.equal(pixel_values[:1], backbone.pixel_values([image]))


def test_tokens(model_folder: Callable[[str], Path]) -> None:
    spec = inspect_backbone(str(model_folder("dinov2_with_registers")))
    assert [n_tokens(spec, tokens) for tokens in ("cls", "mean", "patches")] == [1, 1, 16]
    check_tokens(spec, "cls")
    with pytest.raises(UserError, match="choose tokens mean or patches"):
        check_tokens(inspect_backbone(str(model_folder("ijepa"))), "cls")


def test_weights_that_lack_something(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """transformers would fill them with random numbers."""
    save(tmp_path, new_model("dinov2", num_hidden_layers=2), image_processor("BitImageProcessorPil"))
    edit_json(tmp_path / "config.json", num_hidden_layers=3, out_features=None, out_indices=None, stage_names=None)
    spec = inspect_backbone(str(tmp_path))
    assert spec.n_layers == 3
    Backbone.load(spec, layers=[1], device=CPU)
    with pytest.raises(UserError, match=r"lack \d+ tensors \(encoder.layer.2"):
        Backbone.load(spec, layers=[2], device=CPU)


def test_weights_of_another_shape_and_damaged_ones(tmp_path: Path) -> None:
    save(tmp_path, new_model("dinov2"), image_processor("BitImageProcessorPil"))
    edit_json(tmp_path / "config.json", hidden_size=32)
    with pytest.raises(UserError, match="cannot be loaded") as error:
        Backbone.load(inspect_backbone(str(tmp_path)), layers=[1], device=CPU)
    assert "\n" not in str(error.value)
    edit_json(tmp_path / "config.json", hidden_size=24)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be loaded") as error:
        Backbone.load(inspect_backbone(str(tmp_path)), layers=[1], device=CPU)
    assert "\n" not in str(error.value)
