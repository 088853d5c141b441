"""Classes of packages that differ from the plain one: small checkpoints in their layout, folded exactly."""

from typing import Any

import pytest
import torch
from tests.sae.exchange.peer_files import D_MODEL, N_LATENTS, K, keep_largest, rows, weights, write
from tests.sae.exchange.test_formats import agrees

from hsae.sae.model import SparseAutoencoder

PRISMA = {
    "hook_point_layer": 9, "layer_subtype": "hook_mlp_out", "d_in": D_MODEL, "d_sae": N_LATENTS,
    "normalize_activations": "none", "model_name": "open-clip:laion/x", "dtype": {"__type__": "torch.dtype"},
}  # fmt: skip


def gates() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(N_LATENTS, generator=generator) for name in ("gate", "magnitude", "scale")}


def gated(product: torch.Tensor, own: dict[str, torch.Tensor]) -> torch.Tensor:
    """Latents by the paper: the gate says which fire, the magnitude how strongly."""
    return (own["scale"].exp() * product + own["magnitude"]).relu() * (product + own["gate"] > 0)


def test_topk_of_prisma(tmp_path):
    w, x = weights(unit=True), rows()
    config = PRISMA | {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "architecture": "standard"}
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, w, name="weights", config_name="config.json"))
    latents = keep_largest((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], K)
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"])
    assert (sae.config.kind, sae.config.model_dump()["k"]) == ("topk", K)
    assert (sae.config.imported.hook, sae.config.imported.layer) == ("mlp", 9)


def test_gated_of_prisma(tmp_path):
    w, x, own = weights(), rows(), gates()
    del w["b_enc"]
    tensors = w | {"b_gate": own["gate"], "b_mag": own["magnitude"], "r_mag": own["scale"]}
    config = PRISMA | {"architecture": "gated", "activation_fn_str": "relu"}
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, tensors, name="weights", config_name="config.json"))
    latents = gated((x - w["b_dec"]) @ w["W_enc"], own)
    assert 0 < float((latents > 0).float().mean()) < 1
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))


@pytest.mark.parametrize("with_config", [True, False])
def test_gated_of_dictionary_learning(tmp_path, with_config):
    w, x, own = weights(), rows(), gates()
    tensors = {
        "encoder.weight": w["W_enc"].T, "decoder.weight": w["W_dec"].T, "decoder_bias": w["b_dec"],
        "gate_bias": own["gate"], "mag_bias": own["magnitude"], "r_mag": own["scale"],
    }  # fmt: skip
    config = {"trainer": {"dict_class": "GatedAutoEncoder", "layer": 4}} if with_config else None
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, tensors, name="ae", config_name="config.json"))
    latents = gated((x - w["b_dec"]) @ w["W_enc"], own)
    agrees(sae, x, latents, latents @ w["W_dec"] + w["b_dec"], w["W_dec"].norm(dim=1))
    assert sae.config.kind == "gated"


@pytest.mark.parametrize("tied", [True, False])
def test_jumprelu_of_msae(tmp_path, tied):
    w, x, mean, scale = weights(), rows(), torch.linspace(-1, 1, D_MODEL), 0.4
    if tied:
        w["W_enc"] = w["W_dec"].T.contiguous()
    log_threshold = torch.linspace(-3, 1, N_LATENTS)
    tensors = {
        "encoder": w["W_enc"], "latent_bias": w["b_enc"], "pre_bias": w["b_dec"], "mean_center": mean,
        "scaling_factor": torch.tensor(scale), "activation.log_threshold": log_threshold,
    } | ({} if tied else {"decoder": w["W_dec"]})  # fmt: skip
    name = f"{N_LATENTS}_{D_MODEL}_JumpReLU_{tied}_False_0.0_vit"
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, None, tensors, name=name))
    pre = ((x - mean) * scale - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    latents = pre * (pre > log_threshold.exp())
    assert bool(((pre > 0) & (latents == 0)).any()), "some are between 0 and their threshold"
    agrees(sae, x, latents / scale, (latents @ w["W_dec"] + w["b_dec"]) / scale + mean, w["W_dec"].norm(dim=1))


def of_overcomplete(w: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        "dictionary._weights": w["W_dec"], "dictionary.multiplier": torch.tensor(0.3),
        "encoder.final_block.0.weight": w["W_enc"].T, "encoder.final_block.0.bias": w["b_enc"],
    }  # fmt: skip


def test_jump_sae_of_overcomplete(tmp_path):
    """Its dictionary is used as it is here; the thresholds are stored as logarithms."""
    w, x, log_threshold = weights(), rows(), torch.linspace(-3, 1, N_LATENTS)
    config = {"class": "JumpSAE", "normalization": "identity"}
    tensors = of_overcomplete(w) | {"thresholds": log_threshold}
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, tensors, config_name="config.json"))
    pre, dictionary = x @ w["W_enc"] + w["b_enc"], w["W_dec"] * torch.tensor(0.3).exp()
    latents = pre * (pre > log_threshold.exp())
    agrees(sae, x, latents, latents @ dictionary, dictionary.norm(dim=1))
    assert sae.config.kind == "jumprelu"


@pytest.mark.parametrize("top_k", [K, 64 * K])
def test_batch_topk_of_overcomplete(tmp_path, top_k):
    """Its `top_k` counts the latents of a whole batch; at inference the threshold alone decides."""
    w, x = weights(), rows()
    config: dict[str, Any] = {"class": "BatchTopKSAE", "top_k": top_k, "running_threshold": 1.5}
    sae = SparseAutoencoder.from_pretrained(write(tmp_path, config, of_overcomplete(w), config_name="config.json"))
    pre = x @ w["W_enc"] + w["b_enc"]
    latents, length = pre * (pre > 1.5), torch.tensor(0.3).exp()
    dictionary = w["W_dec"] / w["W_dec"].norm(dim=1, keepdim=True) * length
    agrees(sae, x, latents, latents @ dictionary, length)
    assert (sae.config.kind, sae.config.model_dump()["k"]) == ("batch_topk", min(top_k, N_LATENTS))
    assert any(f"top_k of {top_k} counts the latents of a whole batch" in note for note in sae.config.imported.notes)
