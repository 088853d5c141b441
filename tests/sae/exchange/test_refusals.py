"""What cannot be read or expressed is refused in one line, and nothing is half-read."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from tests.sae.exchange.peer_files import D_MODEL, N_LATENTS, K, saelens_config, weights, write

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.exchange.hook_points import TrainedAt, settled_place
from hsae.sae.exchange.place import SaePlace
from hsae.sae.exchange.read import read_sae
from hsae.sae.model import SparseAutoencoder


def refusal(source, **options) -> str:
    with pytest.raises(UserError) as caught:
        read_sae(SaePlace(str(source)), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"normalize_activations": "layer_norm"}, "standard deviation"),
        ({"normalize_activations": "constant_norm_rescale"}, "own length"),
        ({"normalize_activations": "expected_average_only_in"}, "fold_activation_norm_scaling_factor"),
        ({"normalize_activations": "covariance_whitening"}, "fold_activation_whitening"),
        ({"normalize_activations": "of tomorrow"}, "does not know it"),
        ({"architecture": "temporal"}, "architecture 'temporal'"),
        ({"activation_fn_str": "tanh-relu"}, "activation function 'tanh-relu'"),
        ({"reshape_activations": "hook_z"}, "attention heads"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor"),
        ({"architecture": "topk"}, "has no k"),
        ({"architecture": "topk", "k": K}, "lengths 0.2 to 3"),
        ({"architecture": "topk", "k": True}, "has no k"),
        ({"metadata": {"hook_name": "blocks.8.hook_mlp_in"}}, "a place that hsae does not know"),
        ({"metadata": {"hook_name": "blocks.0.hook_resid_pre"}}, "enters the first block"),
    ],
)
def test_settings_that_no_weights_express(tmp_path, setting, expected):
    message = refusal(write(tmp_path, saelens_config("standard") | setting, weights()))
    assert expected in message


def test_k_above_the_number_of_latents(tmp_path):
    folder = write(tmp_path, saelens_config("topk", k=N_LATENTS + 1), weights(unit=True))
    with pytest.raises(UserError, match="k=41 is larger than the 40 latents of the SAE"):
        SparseAutoencoder.from_pretrained(folder)


def test_prisma_normalises_by_layer_norm_unless_it_says_otherwise(tmp_path):
    config = {"hook_point_layer": 9, "layer_subtype": "hook_resid_post", "d_in": D_MODEL}
    assert "layer_norm" in refusal(write(tmp_path, config, weights()))


@pytest.mark.parametrize("name", ["ae.pt", "weights.pth", "model.bin"])
def test_a_pickle_is_never_read(tmp_path, name):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    for source in (tmp_path, tmp_path / name):
        message = refusal(source)
        assert "is a pickle, and reading one can run any code" in message
        assert "save_file" in message
    assert not (tmp_path / "ran").exists()


def test_the_conversion_is_that_of_the_package(tmp_path):
    (tmp_path / "sae.pt").write_bytes(b"")
    assert "f.readline()" in refusal(tmp_path, format_name="saev")
    (tmp_path / "config.json").write_text(json.dumps({"hook_point_layer": 1, "d_in": 4}))
    assert "state_dict" in refusal(tmp_path)
    assert "mean_center" in refusal(tmp_path, format_name="msae")


def test_a_pickle_with_the_name_of_a_safetensors_file(tmp_path):
    write(tmp_path, saelens_config("standard"), weights())
    (tmp_path / "sae.safetensors").write_bytes(pickle.dumps({"W_enc": [1.0]}))
    assert "no whole safetensors file" in refusal(tmp_path)


@pytest.mark.parametrize("left", [0, 7, 100, 3000])
def test_a_file_that_is_cut_off(tmp_path, left):
    folder = write(tmp_path, saelens_config("standard"), weights())
    path = folder / "sae.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    assert "no whole safetensors file" in refusal(folder)


def test_missing_and_misshapen_tensors(tmp_path):
    w = weights()
    without = {name: value for name, value in w.items() if name != "b_dec"}
    assert "no tensor b_dec" in refusal(write(tmp_path / "a", saelens_config("standard"), without))
    bent = w | {"W_dec": w["W_dec"][:-1]}
    assert "the decoder has the shape [39, 12]" in refusal(write(tmp_path / "b", saelens_config("standard"), bent))
    flat = w | {"W_enc": w["W_enc"].flatten()}
    assert "not two dimensions" in refusal(write(tmp_path / "c", saelens_config("standard"), flat))
    w["b_enc"][0] = torch.nan
    assert "NaN or infinity" in refusal(write(tmp_path / "d", saelens_config("standard"), w))


def without_latents(w: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value[..., :0] if name in ("W_enc", "b_enc") else value[:0] for name, value in w.items()}


@pytest.mark.parametrize(
    ("config", "tensors"),
    [
        (saelens_config("standard"), without_latents(weights()) | {"b_dec": torch.zeros(D_MODEL)}),
        (saelens_config("topk", k=K), without_latents(weights())),
        ({"class": "SAE", "normalization": "max_l2"}, {"dictionary._weights": torch.zeros(0, D_MODEL)}),
        (
            {"trainer": {"dict_class": "AutoEncoder"}},
            {"encoder.weight": torch.zeros(0, 3), "decoder.weight": torch.zeros(3, 0), "bias": torch.zeros(3)},
        ),
        (
            {"activation": "topk", "expansion_factor": 2, "k": K, "d_in": 3},
            {"encoder.weight": torch.zeros(0, 3), "encoder.bias": torch.zeros(0), "W_dec": torch.zeros(0, 3)},
        ),
    ],
)
def test_an_sae_without_latents(tmp_path, config, tensors):
    folder = write(tmp_path, config, tensors, config_name="config.json")
    assert "an SAE without latents or dimensions cannot be imported" in refusal(folder)


def test_an_sae_of_ours_without_latents(tmp_path):
    sae = SparseAutoencoder(SaeConfig(kind="relu", expansion=1), D_MODEL)
    sae.save_pretrained(tmp_path)
    for tensors, said in (({}, "is missing"), ({"encoder_weight": torch.zeros(0, D_MODEL)}, "has the shape [0, 12]")):
        save_file(tensors | {"pre_bias": torch.zeros(D_MODEL)}, tmp_path / "model.safetensors")
        for name in (None, "mine"):
            assert f"{said}: this is no SAE" in refusal(tmp_path, name=name)


def test_groups_without_latents(tmp_path):
    config = {"trainer": {"dict_class": "MatryoshkaBatchTopKSAE", "k": K}}
    tensors = weights(unit=True) | {"threshold": torch.tensor(1.0), "group_sizes": torch.tensor([40, 0])}
    assert "every group needs a latent" in refusal(write(tmp_path, config, tensors, config_name="config.json"))


def test_folders_that_hold_no_sae(tmp_path):
    assert "no safetensors file" in refusal(tmp_path)
    assert "there is no folder or file" in refusal(tmp_path / "missing")
    write(tmp_path / "layers.3", saelens_config("standard"), weights())
    assert "--subfolder" in refusal(tmp_path)
    write(tmp_path / "two", None, weights(), name="a")
    write(tmp_path / "two", None, weights(), name="b")
    assert "2 safetensors files" in refusal(tmp_path / "two")


def test_configs_that_cannot_be_read(tmp_path):
    folder = write(tmp_path, {"who": "knows"}, weights())
    assert "of no known package" in refusal(folder)
    assert "there is no format lens" in refusal(folder, format_name="lens")
    (folder / "cfg.json").write_text("{")
    assert "is no JSON" in refusal(folder)
    (folder / "cfg.json").write_text("[]")
    assert "holds no settings" in refusal(folder)
    (folder / "cfg.json").write_text(json.dumps({"format": "hsae.sae", "version": 99}))
    assert "update hsae" in refusal(folder)


def test_overcomplete_needs_its_class(tmp_path):
    assert "write a config.json" in refusal(write(tmp_path, None, {"dictionary._weights": torch.randn(4, 3)}))


def test_msae_needs_its_name_and_no_soft_cap(tmp_path):
    tensors = {"encoder": torch.randn(3, 4), "latent_bias": torch.zeros(4), "pre_bias": torch.zeros(3)}
    assert "needs the name" in refusal(write(tmp_path / "a", None, tensors, name="best"))
    capped = write(tmp_path / "b", None, tensors, name="4_3_TopKReLU_2_True_False_30.0_x")
    assert "caps latents softly" in refusal(capped)


@pytest.mark.parametrize(
    ("hook_point", "hook", "layer"),
    [
        ("blocks.8.hook_resid_post", "residual", 8), ("blocks.8.hook_resid_pre", "residual", 7),
        ("blocks.8.hook_attn_out", "attention", 8), ("blocks.8.hook_mlp_out", "mlp", 8),
        ("layers.8", "residual", 8), ("h.8", "residual", 8), ("gpt_neox.layers.11", "residual", 11),
        ("encoder.layer.3", "residual", 3), ("transformer.resblocks.3", "residual", 3),
        ("resid_post_layer_8", "residual", 8), ("mlp_out_layer_3", "mlp", 3), ("attention_out_layer_3", "attention", 3),
        ("attn_out_layer_3", "attention", 3), ("layers.5.mlp", "layers.*.mlp", 5),
        ("blocks.2.attn.qkv", "blocks.*.attn.qkv", 2), ("encoder.layer.8.mlp.0", "encoder.layer.*.mlp.0", 8),
        ("encoder.layer.*.mlp.fc1", "encoder.layer.*.mlp.fc1", None), ("encoder.layer.*", "residual", None),
        ("stages.*.layers.*.mlp", "stages.*.layers.*.mlp", None), ("embedding", "embedding", None),
    ],
)  # fmt: skip
def test_hook_points_of_packages_are_ours(hook_point, hook, layer):
    for given in (None, layer):
        found = settled_place(TrainedAt(hook_point), layer=given)
        assert (found.hook, found.layer, found.hook_point) == (hook, layer, hook_point)
    assert settled_place(TrainedAt(hook_point), hook=hook, layer=2 if layer is None else layer).hook == hook


@pytest.mark.parametrize(
    "hook_point",
    ["somewhere", "blocks.8.attn.hook_z", "blocks.8.hook_resid_mid", "layers.2.blocks.3", "stages.2.layers.3.mlp",
     "layernorm", "my layer.3", "blocks.x.hook_mlp_out"],
)  # fmt: skip
def test_a_place_that_nobody_knows_needs_a_hook_point_of_ours(hook_point):
    with pytest.raises(UserError) as caught:
        settled_place(TrainedAt(hook_point), layer=8)
    assert f"trained on {hook_point}, a place that hsae does not know: it knows blocks.N.hook_resid_post," in str(
        caught.value
    )
    assert "say which it is: `hsae-admin sae import PATH --hook residual` (or attention" in str(caught.value)
    assert "\n" not in str(caught.value)
    found = settled_place(TrainedAt(hook_point), layer=8, hook="mlp")
    assert (found.hook, found.layer, found.hook_point) == ("mlp", 8, hook_point)


def test_files_that_name_no_place_are_of_the_residual_stream_unless_somebody_says_more():
    assert settled_place(TrainedAt()).hook == "residual"
    assert settled_place(TrainedAt(), hook="layernorm").hook == "layernorm"
    of_one_block = settled_place(TrainedAt(), hook="encoder.layer.8.mlp.fc1")
    assert (of_one_block.hook, of_one_block.layer) == ("encoder.layer.*.mlp.fc1", 8)
    with pytest.raises(UserError, match="layer 8 here, not 9: correct --layer"):
        settled_place(TrainedAt(layer=8), hook="encoder.layer.9.mlp.fc1")


def test_another_hook_point_than_the_files_say():
    with pytest.raises(UserError, match=r"on blocks\.8\.hook_mlp_out, which is the hook point mlp: correct --hook"):
        settled_place(TrainedAt("blocks.8.hook_mlp_out"), hook="attention")
    with pytest.raises(UserError, match="trained on layernorm, which is the hook point layernorm: correct --hook"):
        settled_place(TrainedAt(hook="layernorm"), hook="residual")
    inner = settled_place(TrainedAt("layers.5.mlp"), hook="encoder.layers.*.mlp")
    assert inner.hook == "layers.*.mlp", "the same module by a longer path"


def test_another_layer_than_the_files_say():
    with pytest.raises(UserError, match="which is layer 8 here, not 9"):
        settled_place(TrainedAt("blocks.8.hook_resid_post"), layer=9)
    with pytest.raises(UserError, match="trained on layer 4"):
        settled_place(TrainedAt(layer=4), layer=9)
