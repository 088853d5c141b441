"""A language model that sees answers while latents of its vision tower are edited: a tiny LLaVA with random weights."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.backbones.conftest import MODELS, image_processor, language_model, new_model, save
from tests.relevancy.small_backbones import random_sae

import hsae
from hsae.backbones.backbone import Backbone
from hsae.backbones.hooks.vision_tower import vision_tower
from hsae.backbones.inspection import inspect_backbone
from hsae.interventions.edits import LatentEdit, TokenPlaces
from hsae.interventions.passes import Intervention, LayerEdit, outcomes

# Of the tower's blocks 0 to 3 LLaVA reads the patches after block 2 (`vision_feature_layer` -2), and no class token.
LAST_READ, N_PATCHES, IMAGE_TOKEN = 2, 16, 39
LATENTS = [3, 11, 30]


@pytest.fixture(scope="module")
def llava():
    return language_model("llava")


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(3)
    ids = torch.tensor([[5, *[IMAGE_TOKEN] * N_PATCHES, 7, 8]] * 2)
    pixel_values = torch.randn(2, 3, 32, 32, generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixel_values}


@pytest.fixture(scope="module")
def sae():
    return random_sae()


def unit_sae(kind):
    """An SAE with directions of unit norm, without which a pursuit has no end."""
    sae = random_sae(kind)
    sae.decoder_weight.div_(sae.decoder_weight.norm(dim=1, keepdim=True))
    return sae


def answer(model, inputs):
    """The ids that a model generates, and the logits of every step."""
    given = inputs | {"pixel_values": inputs["pixel_values"].to(model.dtype)}
    done = model.generate(
        **given, max_new_tokens=4, do_sample=False, pad_token_id=0, output_logits=True, return_dict_in_generate=True
    )
    return done.sequences, torch.stack(done.logits)


def same(one, other):
    return all(torch.equal(here, there) for here, there in zip(one, other, strict=True))


def streams(model, inputs):
    """The stream after every block of the tower, as transformers collects it."""
    with torch.no_grad():
        pixels = inputs["pixel_values"].to(model.dtype)
        return model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[1:]


def active(model, inputs, sae, layer, tokens=slice(1, None)):
    """The latent that fires most after a block, on all images."""
    z = sae.encode(streams(model, inputs)[layer][:, tokens].flatten(0, 1).float())
    return int(z.view(2, -1, sae.n_latents).amax(1).amin(0).argmax())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["relu", "topk", "matching_pursuit"])
def test_a_factor_of_1_changes_no_bit_of_the_answer(kind, dtype, inputs):
    model = language_model("llava").to(dtype)
    plain = answer(model, inputs)
    with hsae.steer(model, unit_sae(kind), range(48), layer=LAST_READ, value=1.0) as steering:
        steered = answer(model, inputs)
    assert same(steered, plain)
    assert steering.n_images == 2
    assert steering.activations.max() > 0


@pytest.mark.parametrize("layer", [0, LAST_READ])
def test_an_active_latent_that_is_taken_away_changes_the_answer(layer, llava, inputs, sae):
    """Also in the very block that the language model reads, of a model that ran before and has transformers' hooks."""
    plain = answer(llava, inputs)
    latent = active(llava, inputs, sae, layer)
    with hsae.steer(llava, sae, [latent], layer=layer) as steering:
        _, logits = answer(llava, inputs)
    assert (steering.activations > 0).all()
    assert not torch.equal(logits[0], plain[1][0])
    with hsae.steer(llava, sae, {latent: 40.0}, layer=layer, kind="add"):
        ids, _ = answer(llava, inputs)
    assert not torch.equal(ids, plain[0])
    assert same(answer(llava, inputs), plain)


def test_a_model_that_never_ran_is_steered(inputs, sae):
    """The hooks with which transformers collects hidden states come after ours then."""
    fresh, used = language_model("llava"), language_model("llava")
    answer(used, inputs)
    with hsae.steer(fresh, sae, LATENTS, layer=LAST_READ), hsae.steer(used, sae, LATENTS, layer=LAST_READ):
        assert same(answer(fresh, inputs), answer(used, inputs))


def test_a_silent_latent_changes_nothing(llava, inputs, sae):
    plain = answer(llava, inputs)
    patches = streams(llava, inputs)[1][:, 1:].flatten(0, 1)
    silent = random_sae()
    with torch.no_grad():
        silent.encoder_bias[7] = -1e6
    assert not silent.encode(patches)[:, 7].any()
    with hsae.steer(llava, silent, [7], layer=1) as steering:
        assert same(answer(llava, inputs), plain)
    assert not steering.activations.any()


@pytest.mark.parametrize("sae_kind", ["relu", "topk", "matching_pursuit"])
@pytest.mark.parametrize(
    ("kind", "value", "tokens", "where"),
    [
        ("scale", 0.0, "patches", list(range(1, 17))),
        ("scale", 3.0, "all", list(range(17))),
        ("clamp", 2.0, "cls", [0]),
        ("add", -1.5, [4, 9, 9], [4, 9]),
    ],
)
def test_the_stream_is_that_of_the_formula(sae_kind, kind, value, tokens, where, llava, inputs):
    sae, layer = unit_sae(sae_kind), 1
    plain = streams(llava, inputs)
    latents = sae.encode(plain[layer][:, where].flatten(0, 1)).sum(0).argsort()[-3:].tolist()
    with hsae.steer(llava, sae, latents, layer=layer, kind=kind, value=value, tokens=tokens) as steering:
        steered = streams(llava, inputs)
    assert torch.equal(steered[0], plain[0])
    expected, z_edited = plain[layer].clone(), []
    for image in range(2):
        z = sae.encode(plain[layer][image, where])
        new = z.clone()
        for latent in latents:
            new[:, latent] = {"scale": z[:, latent] * value, "add": z[:, latent] + value}.get(kind, value)
        expected[image, where] += sae.decode(new) - sae.decode(z)
        z_edited.append(z[:, latents].amax(0))
    torch.testing.assert_close(steered[layer], expected, rtol=1e-5, atol=1e-5)
    others = [token for token in range(17) if token not in where]
    assert torch.equal(steered[layer][:, others], plain[layer][:, others])
    assert not torch.equal(steered[layer], plain[layer])
    np.testing.assert_allclose(steering.activations, torch.stack(z_edited), rtol=1e-5, atol=1e-6)


def test_of_mean_tokens_every_patch_gets_the_change_of_the_mean(llava, inputs, sae):
    plain = streams(llava, inputs)[1]
    latent = int(sae.encode(plain[:, 1:].mean(1)).amin(0).argmax())
    with hsae.steer(llava, sae, [latent], layer=1, tokens="mean"):
        steered = streams(llava, inputs)[1]
    z = sae.encode(plain[:, 1:].mean(1))
    new = z.clone()
    new[:, latent] = 0
    expected = plain[:, 1:] + (sae.decode(new) - sae.decode(z))[:, None]
    torch.testing.assert_close(steered[:, 1:], expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(steered, plain)
    assert torch.equal(steered[:, 0], plain[:, 0])


def test_the_bits_are_those_of_the_study_s_own_pass(llava, inputs, sae, tmp_path):
    """Edits in two layers, as the stage makes them from the stream of the tower alone."""
    folder = save(tmp_path, llava, image_processor(MODELS["clip_vision_model"][3]))
    backbone = Backbone.load(inspect_backbone(str(folder)), layers=range(4), device=torch.device("cpu"))
    recorded = backbone.recorded(inputs["pixel_values"])
    places = TokenPlaces.of("patches", "patches", backbone.spec)
    given = {0: dict.fromkeys(LATENTS, 0.0), 2: {5: 1.5}}
    edits = tuple(LayerEdit(layer, places, LatentEdit.of(sae, changes, "scale")) for layer, changes in given.items())
    with torch.no_grad():
        (expected,) = outcomes(recorded, 0, recorded.streams[0], [Intervention(edits)], 3)
    with hsae.steer(llava, sae, given[0], layer=0), hsae.steer(llava, sae, given[2], layer=2):
        found = streams(llava, inputs)[3]
    assert torch.equal(found, expected)
    assert not torch.equal(found, recorded.streams[3])


def test_afterwards_the_model_is_as_before(llava, inputs, sae):
    plain = answer(llava, inputs)
    hooks = {path: [*module._forward_hooks] for path, module in llava.named_modules()}
    refused = {"input_ids": inputs["input_ids"][:, :-5], "pixel_values": inputs["pixel_values"]}  # too few places
    with pytest.raises(ValueError, match="do not match"), hsae.steer(llava, sae, LATENTS, layer=1):
        llava(**refused)
    assert {path: [*module._forward_hooks] for path, module in llava.named_modules()} == hooks
    assert same(answer(llava, inputs), plain)


def test_edits_are_float32_under_autocast(llava, inputs, sae):
    """The products of the model may be bfloat16; of one layer before the edit they are the same."""
    with torch.autocast("cpu", torch.bfloat16):
        plain = streams(llava, inputs)[1]
        with hsae.steer(llava, sae, LATENTS, layer=1):
            steered = streams(llava, inputs)[1]
    z = sae.encode(plain[:, 1:].flatten(0, 1).float())
    new = z.clone()
    new[:, LATENTS] = 0
    expected = plain[:, 1:].float() + (sae.decode(new) - sae.decode(z)).view(2, N_PATCHES, -1)
    torch.testing.assert_close(steered[:, 1:].float(), expected.to(steered.dtype).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "last_read"), [("llava", 2), ("llava_next", 2), ("llava_onevision", 3), ("vipllava", 3)]
)
def test_what_language_models_read_of_their_towers(kind, last_read):
    model = language_model(kind)
    if kind == "vipllava":
        model.config.vision_feature_layer = (-2, -1, 1)
    tower = vision_tower(model)
    assert (tower.last_read, tower.reads_class_token) == (last_read, False)
    assert (tower.spec.n_layers, tower.spec.d_model, tower.spec.n_patches) == (4, 24, N_PATCHES)
    assert list(tower.blocks) == list(model.model.vision_tower.encoder.layers)
    alone = vision_tower(model.model.vision_tower)
    assert (alone.last_read, alone.reads_class_token) == (3, tower.spec.has_class_token)
    model.config.vision_feature_select_strategy = "full"
    assert vision_tower(model).reads_class_token == (kind in ("llava", "llava_next"))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"layer": 4}, "LlavaForConditionalGeneration has no layer 4: choose from 0 to 3"),
        ({"layer": 3}, "reads its vision tower after block 2, and an edit in layer 3 would change nothing: choose a"),
        ({"layer": 2, "tokens": "cls"}, "reads the patches after block 2 and no class token, whose edit there would"),
        ({"sae": random_sae(d_model=16)}, "the SAE is of 16 dimensions, the vision tower of .* of 24: give an SAE of"),
        ({"latents": [48]}, "latent 48 is of another SAE: this one has 48 latents"),
        ({"latents": []}, "no latent is edited: give at least one"),
        ({"value": float("nan")}, "latent 3 is changed by nan: give a finite number"),
        ({"value": 1e300}, "a dose of an edit is NaN or infinite: give finite numbers"),
        ({"kind": "scala"}, "there is no kind of edit 'scala': choose from scale, clamp, add"),
        ({"tokens": "patch"}, "there are no tokens 'patch': choose from cls, patches, mean, all, or numbers"),
        ({"tokens": [17]}, "has no token 17: give numbers from 0 to 16"),
        ({"layer": 9, "latents": [99], "tokens": [50]}, "no layer 9: .*; latent 99 is of .*; .* has no token 50"),
        ({"sae": "a.safetensors"}, "the SAE is a str: give a hsae.SparseAutoencoder"),
        ({"model": "llava-hf/llava-1.5-7b-hf"}, "the model is a str: give the torch module that transformers loads"),
        ({"model": torch.nn.Linear(2, 2)}, "Linear has no vision tower that is supported: give a model with one of ty"),
        ({"model": "swin"}, "the vision tower of SwinModel is of type swin, whose blocks do not pass on the residual"),
        ({"model": "two"}, "ModuleList has the vision towers 0.model.vision_tower, 1: give the module of one of them"),
    ],
)  # fmt: skip
def test_mistakes(changes, line, llava, sae):
    named = {
        "swin": lambda: new_model("swin"),
        "two": lambda: torch.nn.ModuleList([llava, new_model("vit")]),
    }
    given = {"model": llava, "sae": sae, "latents": LATENTS, "layer": 1} | changes
    if given["model"] in list(named):
        given["model"] = named[given["model"]]()
    with pytest.raises(hsae.UserError, match=line) as refused, hsae.steer(**given):
        raise AssertionError("the context was entered")
    assert "\n" not in str(refused.value)


def test_a_model_that_sees_no_image_inside_is_no_silent_success(llava, sae):
    with (
        pytest.raises(hsae.UserError, match="no image went through the vision tower of Llava.*, so nothing was edited"),
        hsae.steer(llava, sae, LATENTS, layer=1) as steering,
        torch.no_grad(),
    ):
        llava(input_ids=torch.tensor([[5, 7, 8]]))
    assert steering.activations.shape == (0, 3)
    assert repr(steering) == "<Steering after block 1: latents [3, 11, 30], 0 images so far>"


def test_tokens_of_an_edit_are_never_guessed(llava):
    """Any other name was once taken for the patches."""
    given: Any = "patch"
    with pytest.raises(hsae.UserError, match="no choice of tokens 'patch': choose from own, cls, patches, all"):
        TokenPlaces.of(given, "cls", vision_tower(llava).spec)
