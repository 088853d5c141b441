"""Encoding and decoding against the formulas, and what survives storage."""

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder


def random_sae(config: SaeConfig, d_model: int, seed: int = 0) -> SparseAutoencoder:
    sae = SparseAutoencoder(config, d_model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        sae.decoder_weight /= sae.decoder_weight.norm(dim=1, keepdim=True)  # type: ignore[misc]
        sae.input_scale.fill_(0.25)
    return sae


def naive_encode(sae: SparseAutoencoder, x: np.ndarray) -> np.ndarray:
    state = {name: tensor.double().numpy() for name, tensor in sae.to_tensors().items()}
    pre = (x * state["input_scale"] - state["pre_bias"]) @ state["encoder_weight"].T + state["encoder_bias"]
    z = np.maximum(pre, 0)
    if sae.config.kind == "topk":
        for row in z:
            row[np.argsort(-row, kind="stable")[sae.config.variant.k :]] = 0  # type: ignore[attr-defined]
    return z


CONFIGS = [SaeConfig(expansion=3), SaeConfig(kind="topk", k=4, expansion=3), SaeConfig(kind="topk", k=15, expansion=3)]


@pytest.mark.parametrize("config", CONFIGS, ids=["relu", "topk", "topk-all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_encode_and_decode_follow_the_formulas(config, dtype):
    sae = random_sae(config, 5)
    x = (4 * torch.randn(20, 5, generator=torch.Generator().manual_seed(1))).to(dtype)
    with torch.no_grad():
        z, x_hat = sae.encode(x), sae(x)
    assert z.dtype == x_hat.dtype == torch.float32
    expected = naive_encode(sae, x.double().numpy())
    np.testing.assert_allclose(z.numpy(), expected, rtol=1e-4, atol=1e-4)
    if config.kind == "topk":
        assert int((z > 0).sum(dim=1).max()) <= config.variant.k
    state = {name: tensor.double().numpy() for name, tensor in sae.to_tensors().items()}
    decoded = (expected @ state["decoder_weight"] + state["pre_bias"]) / state["input_scale"]
    np.testing.assert_allclose(x_hat.numpy(), decoded, rtol=1e-3, atol=1e-3)


def test_top_k_breaks_ties_by_latent_number():
    sae = SparseAutoencoder(SaeConfig(kind="topk", k=2, expansion=2), 2)
    with torch.no_grad():
        sae.encoder_bias.copy_(torch.tensor([1.0, 3.0, 1.0, 1.0]))
        z = sae.encode(torch.zeros(1, 2))
    assert z.tolist() == [[1.0, 3.0, 0.0, 0.0]]


@examples(25)
@given(
    st.sampled_from(["relu", "topk"]), st.integers(1, 9), st.integers(1, 6), st.integers(0, 1000), st.integers(0, 2**31)
)
def test_tensors_round_trip(kind, d_model, expansion, seed, weights_seed):
    settings_of_kind = {"k": min(3, d_model * expansion)} if kind == "topk" else {"l1_coefficient": 0.5}
    config = SaeConfig(kind=kind, expansion=expansion, seed=seed, **settings_of_kind)
    sae = random_sae(config, d_model, weights_seed)
    stored = safetensors.torch.load(safetensors.torch.save(sae.to_tensors()))
    again = SparseAutoencoder.from_tensors(stored, SaeConfig.model_validate_json(config.model_dump_json()))
    assert again.config == config
    for name, tensor in sae.to_tensors().items():
        assert torch.equal(tensor, again.to_tensors()[name])
    x = torch.randn(3, d_model)
    with torch.no_grad():
        assert torch.equal(sae.encode(x), again.encode(x))


def test_to_tensors_are_copies():
    sae = random_sae(CONFIGS[0], 5)
    tensors = sae.to_tensors()
    again = SparseAutoencoder.from_tensors(tensors, CONFIGS[0])
    tensors["pre_bias"].zero_()
    assert sae.pre_bias.any()
    assert again.pre_bias.any()


def test_foreign_tensors_are_refused():
    config = CONFIGS[0]
    tensors = random_sae(config, 5).to_tensors()
    without = {name: t for name, t in tensors.items() if name != "encoder_bias"}
    with pytest.raises(UserError, match="these tensors are no SAE"):
        SparseAutoencoder.from_tensors(without, config)
    with pytest.raises(UserError, match="pre_bias"):
        SparseAutoencoder.from_tensors({}, config)
    with pytest.raises(UserError, match=r"encoder_weight of the SAE is torch.float32 \[15, 5\], but its config needs"):
        SparseAutoencoder.from_tensors(tensors, SaeConfig(expansion=4))
    with pytest.raises(UserError, match="decoder_weight of the SAE is torch.float64"):
        SparseAutoencoder.from_tensors({**tensors, "decoder_weight": tensors["decoder_weight"].double()}, config)
    with pytest.raises(UserError, match="encoder_bias of the SAE holds NaN"):
        SparseAutoencoder.from_tensors({**tensors, "encoder_bias": torch.full((15,), float("nan"))}, config)
    with pytest.raises(UserError, match="input_scale"):
        SparseAutoencoder.from_tensors({**tensors, "input_scale": torch.zeros(())}, config)
    with pytest.raises(UserError, match="k=99 is larger"):
        SparseAutoencoder.from_tensors(tensors, SaeConfig(kind="topk", k=99, expansion=3))
