"""Hook points: what the parts of a block add, the embedding after the projection, and modules by their path."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from hsae.backbones.architectures import ARCHITECTURES
from hsae.backbones.backbone import Backbone
from hsae.backbones.hooks.names import EMBEDDING, HOOKS, RESIDUAL, is_path, prisma_name, same_hook
from hsae.backbones.hooks.places import SettledHook
from hsae.backbones.inspection import describe, inspect_backbone
from hsae.backbones.spec import BackboneSpec, check_tokens
from hsae.errors import UserError

from .conftest import MODELS, STAGED, image_processor, random_images, randomise, save

CPU = torch.device("cpu")
CLIP = "clip_vision_model"


def read(folder: Path, hook: str, layers: Any, tokens: Any = "patches", **options: Any) -> dict[int, torch.Tensor]:
    spec = inspect_backbone(str(folder), hook=hook, **options)
    backbone = Backbone.load(spec, layers=layers, device=CPU, hook=hook)
    return backbone.activations(backbone.pixel_values(random_images(3)), tokens)


@pytest.mark.parametrize("kind", MODELS)
def test_what_the_parts_add_makes_the_next_stream(kind: str, model_folder: Callable[[str], Path]) -> None:
    folder = model_folder(kind)
    stream, attention, mlp = (read(folder, hook, range(4)) for hook in (RESIDUAL, "attention", "mlp"))
    for layer in range(1, 4):
        assert attention[layer].shape == mlp[layer].shape == stream[layer].shape
        assert not torch.allclose(attention[layer], mlp[layer])
        torch.testing.assert_close(
            stream[layer - 1] + attention[layer] + mlp[layer], stream[layer], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("kind", STAGED)
def test_what_the_parts_of_a_block_in_a_stage_add(kind: str, model_folder: Callable[[str], Path]) -> None:
    folder = model_folder(kind)
    stream, mlp = read(folder, RESIDUAL, [1, 2]), read(folder, "mlp", [1, 2])
    added = mlp[2]
    if ARCHITECTURES[kind].attention is None:
        with pytest.raises(UserError, match="have no attention hook point: choose residual, mlp, or a module"):
            inspect_backbone(str(folder), hook="attention")
    else:
        added = added + read(folder, "attention", [2])[2]
    torch.testing.assert_close(stream[1] + added, stream[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["dinov2", "dinov2_with_registers"])
def test_gated_mlps_as_the_largest_dinov2_has_them(kind: str, tmp_path: Path) -> None:
    config = getattr(transformers, MODELS[kind][0])(**MODELS[kind][2], use_swiglu_ffn=True)
    model = randomise(getattr(transformers, MODELS[kind][1])(config))
    folder = save(tmp_path, model, image_processor(MODELS[kind][3]))
    stream, attention, mlp = (read(folder, hook, range(4)) for hook in (RESIDUAL, "attention", "mlp"))
    gate = read(folder, "encoder.layer.*.mlp.gate_proj", range(4))
    spec = inspect_backbone(str(folder))
    pixel_values = Backbone.load(spec, layers=[0], device=CPU).pixel_values(random_images(3))
    with torch.no_grad():
        hidden_states = model(pixel_values, output_hidden_states=True).hidden_states
    for layer in range(4):
        assert gate[layer].shape == (3, 16, 64)  # two thirds of 4 x 24
        if layer < 3:
            torch.testing.assert_close(
                stream[layer], hidden_states[layer + 1][:, spec.n_prefix_tokens :], rtol=0, atol=0
            )
        if layer:
            added = attention[layer] + mlp[layer]
            torch.testing.assert_close(stream[layer - 1] + added, stream[layer], rtol=1e-5, atol=1e-5)

    drawn = read(folder, RESIDUAL, [2], random_seed=5)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        new = getattr(transformers, MODELS[kind][1])(config).eval()
        expected = new(pixel_values, output_hidden_states=True).hidden_states[3]
    assert torch.equal(drawn[2], expected[:, spec.n_prefix_tokens :])


def pair_of(tmp_path: Path) -> tuple[Path, Any]:
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**text, "vocab_size": 30}, vision_config=MODELS[CLIP][2], projection_dim=10
    )
    model = randomise(transformers.CLIPModel(config))
    return save(tmp_path, model, image_processor(MODELS[CLIP][3])), model


def test_the_embedding_of_a_pair_is_after_its_projection(tmp_path: Path) -> None:
    folder, model = pair_of(tmp_path)
    spec = inspect_backbone(str(folder), hook=EMBEDDING)
    assert spec.d_model == 24
    assert {layer: shape.width for layer, shape in spec.hook_shapes.items()} == {3: 10}
    backbone = Backbone.load(spec, layers=[3], device=CPU, hook=EMBEDDING)
    pixel_values = backbone.pixel_values(random_images(3))
    with torch.no_grad():
        expected = model.get_image_features(pixel_values)
    expected = expected if isinstance(expected, torch.Tensor) else expected.pooler_output
    found = backbone.activations(pixel_values, "cls")[3]
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-6, atol=1e-6)
    for tokens in ("patches", "mean"):
        with pytest.raises(UserError, match="gives one vector for an image and no patches: choose tokens cls"):
            check_tokens(spec, tokens, hook=EMBEDDING)
    with pytest.raises(UserError, match="hook point embedding of .* is at layer 3, not at 2"):
        Backbone.load(spec, layers=[2], device=CPU, hook=EMBEDDING)


@pytest.mark.parametrize("kind", ["siglip_vision_model", "siglip2_vision_model"])
def test_the_embedding_of_a_tower_without_a_class_token_is_its_pooled_one(
    kind: str, model_folder: Callable[[str], Path]
) -> None:
    from .test_layers import inputs

    folder = model_folder(kind)
    model = getattr(transformers, MODELS[kind][1]).from_pretrained(folder).eval()
    backbone = Backbone.load(inspect_backbone(str(folder), hook=EMBEDDING), layers=[3], device=CPU, hook=EMBEDDING)
    pixel_values = backbone.pixel_values(random_images(2))
    with torch.no_grad():
        expected = model(**inputs(kind, model, pixel_values)).pooler_output
    torch.testing.assert_close(backbone.activations(pixel_values, "cls")[3][:, 0], expected, rtol=1e-5, atol=1e-5)


def test_a_model_without_an_embedding(model_folder: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="has no embedding after its blocks: choose residual, attention, mlp, or a"):
        inspect_backbone(str(model_folder("dinov2")), hook=EMBEDDING)


@pytest.mark.parametrize(
    ("hook", "settled"),
    [
        ("encoder.layer.2", SettledHook(RESIDUAL, 2)),
        ("encoder.layer.*", SettledHook(RESIDUAL)),
        ("encoder.layer.1.mlp.fc1", SettledHook("encoder.layer.*.mlp.fc1", 1)),
        ("encoder.layer.*.mlp.fc1", SettledHook("encoder.layer.*.mlp.fc1")),
        ("attention", SettledHook("attention")),
        ("embeddings", SettledHook("embeddings", 0)),
        ("layernorm", SettledHook("layernorm", 3)),
    ],
)
def test_one_place_has_one_name(hook: str, settled: SettledHook, model_folder: Callable[[str], Path]) -> None:
    assert describe(str(model_folder("dinov2"))).settled(hook) == settled


@pytest.mark.parametrize(
    ("kind", "hook", "settled"),
    [
        (CLIP, "vision_model.encoder.layers.*.mlp", "encoder.layers.*.mlp"),
        (CLIP, "model.vision_model.encoder.layers.*.mlp", "encoder.layers.*.mlp"),
        (CLIP, "layers.*.mlp", "encoder.layers.*.mlp"),
        (CLIP, "vision_model.encoder.layers.*", RESIDUAL),
        ("swin", "layers.*.blocks.*.mlp", "encoder.layers.*.blocks.*.mlp"),
        ("swin", "swin.encoder.layers.*.blocks.*.mlp", "encoder.layers.*.blocks.*.mlp"),
    ],
)
def test_a_path_from_another_class_of_the_model(
    kind: str, hook: str, settled: str, model_folder: Callable[[str], Path]
) -> None:
    assert describe(str(model_folder(kind))).settled(hook) == SettledHook(settled)


@pytest.mark.parametrize("hook", ["encoder.layer.*.mlp.fc1", "encoder.layer.*.norm1", "embeddings", "layernorm"])
def test_a_module_by_its_path(hook: str, model_folder: Callable[[str], Path]) -> None:
    folder = model_folder("dinov2")
    described = describe(str(folder))
    layer = described.settled(hook).layer
    layers = range(4) if layer is None else [layer]
    spec = described.at(hook)
    backbone = Backbone.load(spec, layers=layers, device=CPU, hook=hook)
    pixel_values = backbone.pixel_values(random_images(3))
    model: Any = transformers.Dinov2Model.from_pretrained(folder).eval()
    expected: dict[int, torch.Tensor] = {}
    for number in layers:
        model.get_submodule(hook.replace("*", str(number))).register_forward_hook(
            lambda module, given, output, number=number: expected.__setitem__(number, output)
        )
    with torch.no_grad():
        model(pixel_values)
    found, cls = backbone.activations(pixel_values, "patches"), backbone.activations(pixel_values, "cls")
    for number in layers:
        assert spec.shape(number, hook).width == expected[number].shape[2]
        torch.testing.assert_close(found[number], expected[number][:, 1:], rtol=0, atol=0)
        torch.testing.assert_close(cls[number], expected[number][:, :1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "hook", "message"),
    [
        ("dinov2", "encoder.layer.9", r"has no module encoder\.layer\.9: near ones are .*encoder\.layer\.0"),
        ("dinov2", "encoder.layers.1", r"has no module encoder\.layers\.1: near ones are encoder\.layer"),
        ("dinov2", "encoder.layer.1.mlp.fc3", r"near ones are .*encoder\.layer\.1\.mlp\.fc1"),
        ("dinov2", "encoder.layer.*.mlp.fc3", r"has no module encoder\.layer\.\*\.mlp\.fc3"),
        (CLIP, "text_model.encoder.layers.*.mlp", r"has no module text_model\.encoder\.layers\.\*\.mlp"),
        (CLIP, "vision_model.encoder.layers.*.mlp.fc3", r"has no module vision_model\.encoder\.layers\.\*\.mlp\.fc3"),
        ("dinov2", "*.mlp", r"has no module \*\.mlp"),
        ("dinov2", "attentions", "near ones are attention"),
        ("dinov2", "zzz", r"has no module zzz: it has .*; or choose residual, attention, mlp \(`models show`"),
        (
            "swin",
            "encoder.layers.0.blocks.0.attention.q_proj",
            r"gives \[.*\] for 2 images, and no vector for each patch",
        ),
    ],
)
def test_a_hook_point_that_is_none(kind: str, hook: str, message: str, model_folder: Callable[[str], Path]) -> None:
    described = describe(str(model_folder(kind)))
    with pytest.raises(UserError, match=message) as error:
        described.at(described.settled(hook).hook)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("kind", "n_registers"), [("dinov2_with_registers", 3), ("dinov3_vit", 2)])
def test_registers_are_tokens_of_their_own(kind: str, n_registers: int, model_folder: Callable[[str], Path]) -> None:
    folder = model_folder(kind)
    spec = inspect_backbone(str(folder))
    assert spec.n_registers == n_registers
    backbone = Backbone.load(spec, layers=[1], device=CPU)
    pixel_values = backbone.pixel_values(random_images(2))
    model = getattr(transformers, MODELS[kind][1]).from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(pixel_values, output_hidden_states=True).hidden_states[2]
    found = backbone.activations(pixel_values, "registers")[1]
    torch.testing.assert_close(found, expected[:, 1 : 1 + n_registers], rtol=0, atol=0)
    with pytest.raises(UserError, match="has no register tokens: choose other tokens"):
        check_tokens(inspect_backbone(str(model_folder("deit"))), "registers")


def test_random_weights_do_not_depend_on_the_hook_point(tmp_path: Path) -> None:
    folder, _ = pair_of(tmp_path)
    drawn = inspect_backbone(str(folder), random_seed=3, hook=EMBEDDING)
    whole = Backbone.load(drawn, layers=[3], device=CPU, hook=EMBEDDING)
    plain = Backbone.load(inspect_backbone(str(folder), random_seed=3), layers=[3], device=CPU)
    assert drawn.revision == plain.spec.revision
    theirs = dict(whole._model.named_parameters())
    for name, parameter in plain._model.named_parameters():
        assert torch.equal(parameter, theirs[f"vision_model.{name}"]), name


def test_a_spec_with_hook_shapes_is_json_and_back(model_folder: Callable[[str], Path]) -> None:
    spec = inspect_backbone(str(model_folder("swin")), hook="encoder.layers.*.blocks.*.mlp.fc1")
    assert BackboneSpec.model_validate_json(spec.model_dump_json()) == spec


def test_names() -> None:
    assert [hook for hook in HOOKS if is_path(hook)] == []
    assert is_path("encoder.layer.8")
    assert prisma_name("attention", 3) == "blocks.3.hook_attn_out"
    assert prisma_name("mlp", 3) == "blocks.3.hook_mlp_out"
    assert prisma_name(EMBEDDING, 3) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("mlp", "mlp", True),
        ("mlp", "attention", False),
        ("encoder.layer.*.mlp", "encoder.layer.*.mlp", True),
        ("layer.*.mlp", "encoder.layer.*.mlp", True),
        ("player.*.mlp", "layer.*.mlp", False),
        ("encoder.layer.*.mlp", "mlp", False),
    ],
)
def test_a_path_that_leaves_out_what_is_around_the_blocks_is_the_same(one: str, other: str, same: bool) -> None:
    assert same_hook(one, other) == same_hook(other, one) == same
