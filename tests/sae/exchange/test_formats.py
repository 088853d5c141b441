"""Files of each package are read, and the latents are the package's, times the length of their directions."""

from typing import Any

import pytest
import torch
from tests.sae.exchange.peer_files import (
    D_MODEL,
    N_LATENTS,
    K,
    keep_largest,
    rows,
    saelens_config,
    weights,
    write,
)

from hsae.sae.model import SparseAutoencoder
from hsae.sae.variants import VARIANTS

needs_jumprelu = pytest.mark.skipif("jumprelu" not in VARIANTS, reason="there is no kind jumprelu")
needs_gated = pytest.mark.skipif("gated" not in VARIANTS, reason="there is no kind gated")
needs_batch_topk = pytest.mark.skipif("batch_topk" not in VARIANTS, reason="there is no kind batch_topk")


def agrees(sae: SparseAutoencoder, x: torch.Tensor, latents: torch.Tensor, x_hat: torch.Tensor, lengths=1.0) -> None:
    """Latents and reconstructions equal the package's."""
    scale = float(sae.input_scale)
    assert (sae.encode(x) / scale - latents * lengths).abs().max() < 1e-5 * max(1, float(latents.abs().max()))
    assert (sae(x) - x_hat).abs().max() < 1e-5 * max(1, float(x_hat.abs().max()))
    assert (sae.decoder_weight.norm(dim=1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("subtracts", [True, False])
def test_a_standard_sae_of_saelens(tmp_path, subtracts):
    w, x = weights(), rows()
    folder = write(tmp_path, saelens_config("standard", apply_b_dec_to_input=subtracts), w)
    sae = SparseAutoencoder.from_pretrained(folder)
    latents = ((x - subtracts * w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))
    origin = sae.config.imported
    assert (origin.layer, origin.hook_point, origin.model) == (8, "blocks.8.hook_resid_post", "some-vit")
    assert (origin.n_latents, origin.d_model, sae.config.expansion) == (N_LATENTS, D_MODEL, 3)
    assert any("lengths of 0.2 to 3" in note for note in origin.notes)
    assert any("decoder's bias" in note for note in origin.notes) == (not subtracts)


def test_an_early_config_of_saelens(tmp_path):
    w, x = weights(unit=True), rows()
    config = {
        "d_in": D_MODEL, "d_sae": N_LATENTS, "hook_name": "blocks.3.hook_resid_pre", "hook_layer": 3,
        "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "normalize_activations": "none",
    }  # fmt: skip
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, w))
    latents = keep_largest((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], K)
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"])
    assert sae.config.kind == "topk"
    assert sae.config.imported.layer == 2  # what enters block 3 is the output of block 2


def test_topk_of_saelens_that_selects_by_contribution(tmp_path):
    w, x = weights(), rows()
    lengths = w["W_dec"].norm(dim=1)
    folder = write(tmp_path, saelens_config("topk", k=K, rescale_acts_by_decoder_norm=True), w)
    sae = SparseAutoencoder.from_pretrained(folder)
    latents = keep_largest(((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]), K, by=lengths)
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], lengths)


def test_equal_lengths_are_folded_into_topk(tmp_path):
    w, x = weights(unit=True), rows()
    w["W_dec"] = 0.1 * w["W_dec"]
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, saelens_config("topk", k=K), w))
    latents = keep_largest((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], K)
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], 0.1)


@needs_jumprelu
def test_jumprelu_of_saelens(tmp_path):
    w, x = weights(), rows()
    threshold = torch.linspace(-0.5, 4, N_LATENTS)
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, saelens_config("jumprelu"), w | {"threshold": threshold}))
    pre = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    latents = pre.relu() * (pre > threshold)
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))


@needs_gated
@pytest.mark.parametrize("subtracts", [True, False])
def test_gated_of_saelens(tmp_path, subtracts):
    w, x = weights(), rows()
    del w["b_enc"]
    w |= {"b_gate": torch.linspace(-2, 2, N_LATENTS), "b_mag": torch.randn(N_LATENTS), "r_mag": torch.randn(N_LATENTS)}
    config = saelens_config("gated", apply_b_dec_to_input=subtracts)
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, w))
    product = (x - subtracts * w["b_dec"]) @ w["W_enc"]
    latents = (product * w["r_mag"].exp() + w["b_mag"]).relu() * (product + w["b_gate"] > 0)
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))


@pytest.mark.parametrize("tokens", [None, "cls", "patches"])
def test_prisma(tmp_path, tokens):
    w, x = weights(), rows()
    config = {
        "hook_point_layer": 9, "layer_subtype": "hook_resid_post", "d_in": D_MODEL, "d_sae": N_LATENTS,
        "normalize_activations": "none", "model_name": "open-clip:laion/x", "cls_token_only": tokens == "cls",
        "use_patches_only": tokens == "patches", "activation_fn_str": "relu", "dtype": {"__type__": "torch.dtype"},
    }  # fmt: skip
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, w, name="weights", config_name="config.json"))
    latents = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))
    assert sae.config.imported.format == "prisma"
    assert (sae.config.imported.layer, sae.config.imported.tokens) == (9, tokens)


def test_sparsify(tmp_path):
    w, x = weights(unit=True), rows()
    config = {"activation": "topk", "expansion_factor": 32, "num_latents": N_LATENTS, "k": K, "d_in": D_MODEL}
    tensors = {"encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"], "W_dec": w["W_dec"], "b_dec": w["b_dec"]}
    sae = SparseAutoencoder.from_pretrained(write(tmp_path / "layers.5", config, tensors))
    latents = keep_largest((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], K)
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"])
    assert (sae.config.imported.layer, sae.config.imported.format) == (5, "sparsify")


@pytest.mark.parametrize("name", ["AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK"])
@pytest.mark.parametrize("with_config", [True, False])
def test_dictionary_learning(tmp_path, name, with_config):
    w, x = weights(unit=name == "AutoEncoderTopK"), rows()
    bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(name, "b_dec")
    tensors = {
        "encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"], "decoder.weight": w["W_dec"].T, bias: w["b_dec"],
    }  # fmt: skip
    if name == "AutoEncoderTopK":
        tensors |= {"k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(-1.0)}
    trainer = {"dict_class": name, "k": K, "layer": 4, "lm_name": "m", "submodule_name": "resid_post_layer_4"}
    config = {"trainer": trainer} if with_config else None
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, tensors, name="ae", config_name="config.json"))
    pre = (x - (w["b_dec"] if name != "AutoEncoderNew" else 0)) @ w["W_enc"] + w["b_enc"]
    latents = keep_largest(pre, K) if name == "AutoEncoderTopK" else pre.relu()
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))
    assert sae.config.imported.layer == (4 if with_config else None)


@needs_jumprelu
@pytest.mark.parametrize("subtracts", [False])
def test_jumprelu_of_dictionary_learning(tmp_path, subtracts):
    w, x = weights(unit=True), rows()
    threshold = torch.rand(N_LATENTS)
    config = {"trainer": {"dict_class": "JumpReluAutoEncoder", "layer": 4}}
    sae = SparseAutoencoder.from_pretrained(
        write(tmp_path, config, w | {"threshold": threshold}, name="ae", config_name="config.json")
    )
    pre = x @ w["W_enc"] + w["b_enc"]
    latents = (pre * (pre > threshold)).relu()
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"])


@needs_batch_topk
@pytest.mark.parametrize("name", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_batch_topk_of_dictionary_learning(tmp_path, name):
    w, x = weights(unit=True), rows()
    tensors = {"k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(1.5)}
    if name == "BatchTopKSAE":
        tensors |= {
            "encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"], "decoder.weight": w["W_dec"].T,
            "b_dec": w["b_dec"],
        }  # fmt: skip
    else:
        tensors |= w | {"group_sizes": torch.tensor([4, 6, 30])}
    config = {"trainer": {"dict_class": name, "k": K}}
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, tensors, name="ae", config_name="config.json"))
    pre = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    latents = pre * (pre > 1.5)
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"])
    assert sae.config.model_dump()["k"] == K
    if name == "MatryoshkaBatchTopKSAE":
        variant: Any = sae.config.variant
        assert variant.prefix_sizes(N_LATENTS) == [4, 10, 40]


@pytest.mark.parametrize("encoder", ["linear", "batch_norm", "tied", "untied"])
@pytest.mark.parametrize("normalisation", ["l2", "l1", "max_l2", "max_l1", "identity"])
def test_overcomplete(tmp_path, encoder, normalisation):
    w, x = weights(), rows()
    order = 1 if "l1" in normalisation else 2
    lengths = w["W_dec"].norm(p=order, dim=1, keepdim=True)
    divisor = {"l": lengths, "m": lengths.max(), "i": torch.ones(())}[normalisation[0]]
    dictionary = w["W_dec"] / divisor * torch.tensor(0.3).exp()
    tensors = {"dictionary._weights": w["W_dec"], "dictionary.multiplier": torch.tensor(0.3)}
    if encoder in ("linear", "batch_norm"):
        tensors |= {"encoder.final_block.0.weight": w["W_enc"].T, "encoder.final_block.0.bias": w["b_enc"]}
        pre = x @ w["W_enc"] + w["b_enc"]
    elif encoder == "untied":
        tensors |= {"encoder.weight": w["W_enc"].T}
        pre = x @ w["W_enc"]
    else:
        pre = x @ dictionary.T
    if encoder == "batch_norm":
        norm = torch.nn.BatchNorm1d(N_LATENTS)
        with torch.no_grad():
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        tensors |= {f"encoder.final_block.1.{name}": value.clone() for name, value in norm.state_dict().items()}
        pre = norm.eval()(pre).detach()
    folder = write(tmp_path, {"class": "SAE", "normalization": normalisation}, tensors, config_name="config.json")
    latents = pre.relu()
    agrees(SparseAutoencoder.from_pretrained(folder), x, latents, latents @ dictionary, dictionary.norm(dim=1))


def test_topk_of_overcomplete(tmp_path):
    w, x = weights(unit=True), rows()
    tensors = {
        "dictionary._weights": 3 * w["W_dec"], "dictionary.multiplier": torch.tensor(0.7),
        "encoder.final_block.0.weight": w["W_enc"].T, "encoder.final_block.0.bias": w["b_enc"],
    }  # fmt: skip
    folder = write(tmp_path, {"class": "TopKSAE", "top_k": K}, tensors, config_name="config.json")
    latents = keep_largest(x @ w["W_enc"] + w["b_enc"], K)
    length = torch.tensor(0.7).exp()
    agrees(SparseAutoencoder.from_pretrained(folder), x, latents, length * latents @ w["W_dec"], length)


@pytest.mark.parametrize(("schema", "activation"), [(None, "Relu"), (2, "Relu"), (2, "TopK"), (2, "BatchTopK")])
def test_saev(tmp_path, schema, activation):
    w, x = weights(unit=activation != "Relu"), rows()
    settings: dict[str, Any] = {"d_vit": D_MODEL, "exp_factor": 4, "seed": 0}
    config = settings
    if schema == 2:
        chosen = {"cls": activation, "params": {} if activation == "Relu" else {"top_k": K}}
        config = {"schema": 2, "cfg": settings | {"activation": chosen}, "commit": "c", "lib": "0.2.0"}
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, w, config_name="config.json"), layer=7)
    pre = (x - (w["b_dec"] if schema is None else 0)) @ w["W_enc"] + w["b_enc"]
    latents = pre.relu() if activation == "Relu" else keep_largest(pre, K)
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))
    assert sae.config.imported.layer == 7


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("activation", ["ReLU_0.03", "TopKReLU_5_RW"])
def test_msae(tmp_path, activation, tied):
    w, x = weights(unit=True), rows()
    if tied:
        w["W_enc"] = w["W_dec"].T.contiguous()
    mean, scale = torch.randn(D_MODEL), 0.4
    tensors = {
        "encoder": w["W_enc"], "latent_bias": w["b_enc"], "pre_bias": w["b_dec"], "mean_center": mean,
        "scaling_factor": torch.tensor(scale), "latents_activation_frequency": torch.zeros(N_LATENTS).long(),
    } | ({} if tied else {"decoder": w["W_dec"]})  # fmt: skip
    name = f"{N_LATENTS}_{D_MODEL}_{activation}_{tied}_False_0.0_vit"
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, None, tensors, name=name))
    pre = ((x - mean) * scale - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    latents = pre.relu() if activation.startswith("ReLU") else keep_largest(pre, K)
    x_hat = (latents @ w["W_dec"] + w["b_dec"]) / scale + mean
    agrees(sae, x, latents / scale, x_hat)


def test_half_precision_is_read(tmp_path):
    w, x = weights(), rows()
    halves = {name: value.bfloat16() for name, value in w.items()}
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, saelens_config("standard"), halves))
    w = {name: value.float() for name, value in halves.items()}
    latents = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))


def test_a_latent_without_a_direction_never_fires(tmp_path):
    w, x = weights(), rows()
    w["W_dec"][3] = 0
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, saelens_config("standard"), w))
    latents = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))
    assert not sae.encode(x)[:, 3].any()
