"""Nested dictionaries and nested TopK: settings, losses by the formula, what a prefix learns."""

import pytest
import torch
from tests.sae.small_trainings import CPU
from tests.sae.variants.plain_formula import (
    assert_same_losses,
    at_step,
    leaves,
    plain_auxiliary,
    random_rows,
    random_sae,
)

from hsae.errors import UserError
from hsae.pipeline.kinds.setting_labels import sae_label
from hsae.pipeline.kinds.train import TrainRequest
from hsae.sae.config import SaeConfig, check_config
from hsae.sae.model import SparseAutoencoder
from hsae.sae.training.trainer import train
from hsae.sae.variants.nested.matryoshka import Matryoshka


def key(**settings):
    return TrainRequest(activation_key="a", sae=SaeConfig(**settings)).key


def test_a_list_is_one_text_with_one_way_to_write_it():
    plain = SaeConfig(kind="matryoshka", groups="1/4,1/2,1")
    assert SaeConfig(kind="matryoshka", groups=" 0.25, 2/4 ,1.0") == plain
    assert key(kind="matryoshka", groups="0.25,0.5,1") == key(kind="matryoshka", groups="1/4,1/2,1")
    assert key(kind="matryoshka") == key(kind="matryoshka", groups="1/16,1/8,1/4,1/2,1")
    assert key(kind="matryoshka_topk", ks="4, 08") == key(kind="matryoshka_topk", ks="4,8")
    assert key(kind="matryoshka_topk", ks="4,8", weighting="reverse") != key(kind="matryoshka_topk", ks="4,8")
    assert sae_label(plain) == "matryoshka SAE x8 (groups=1/4,1/2,1)"
    nested = SaeConfig(kind="matryoshka_topk", ks="4,8", weighting="reverse")
    assert sae_label(nested) == "matryoshka_topk SAE x8 (ks=4,8, weighting=reverse)"
    for config in (plain, nested):
        assert SaeConfig.parse(config.model_dump()) == config
        assert SaeConfig.model_validate_json(config.model_dump_json()) == config


TOO_MANY = ",".join(f"{n}/40" for n in range(1, 41))


@pytest.mark.parametrize(
    "groups",
    ["", "1", 1, "1/2", "1/2,1/4,1", "1/2,1/2,1", "0,1", "-1,1", "1/2,2", "1/0,1", "1e-9,1", "a,1", "nan,1", TOO_MANY],
)
def test_groups_are_rising_shares_that_end_at_1(groups):
    with pytest.raises(UserError) as error:
        SaeConfig(kind="matryoshka", groups=groups)
    assert str(error.value).startswith(f"groups '{groups}' is not valid: give 2 to 32 rising shares that end at 1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ks", ["", "8", 8, "8,4", "8,8", "0,8", "-1,8", "1.5,8", "a", "4;8"])
def test_counts_rise(ks):
    with pytest.raises(UserError) as error:
        SaeConfig(kind="matryoshka_topk", ks=ks)
    assert str(error.value).startswith(f"ks '{ks}' is not valid: give 2 to 32 rising numbers")


def test_other_mistakes_are_one_line():
    with pytest.raises(UserError, match="ks=500 is larger than the 64 latents of expansion 8 at d_model 8"):
        check_config(SaeConfig(kind="matryoshka_topk", ks="4,500"), 8)
    with pytest.raises(UserError, match="k=500 is larger than the 64 latents"):
        check_config(SaeConfig(kind="matryoshka", k=500), 8)
    with pytest.raises(UserError, match="weighting 'best' is not valid: input should be 'uniform' or 'reverse'"):
        SaeConfig(kind="matryoshka_topk", weighting="best")
    with pytest.raises(UserError, match="ks does not apply to a topk SAE: leave it out or choose kind matryoshka_topk"):
        SaeConfig(kind="topk", ks="1,2")


def test_prefixes_have_at_least_one_latent():
    assert Matryoshka().prefix_sizes(64) == [4, 8, 16, 32, 64]
    assert Matryoshka().prefix_sizes(4) == [1, 1, 1, 2, 4]


def test_nested_topk_by_hand():
    config = SaeConfig(kind="matryoshka_topk", ks="1,2", weighting="reverse", expansion=1, aux_coefficient=0)
    sae = SparseAutoencoder(config, 3)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.eye(3))
        sae.decoder_weight.copy_(torch.eye(3))
    rows = torch.tensor([[3.0, 2.0, 2.0], [1.0, -1.0, -2.0]])
    torch.testing.assert_close(sae.encode(rows), torch.tensor([[3.0, 2.0, 0.0], [1.0, 0.0, 0.0]]))
    losses = config.variant.losses(sae, rows, at_step(sae))
    one, two = ((4 + 4) + (1 + 4)) / 6, (4 + (1 + 4)) / 6
    assert float(losses.reconstruction) == pytest.approx((2 * one + 1 * two) / 3)


@pytest.mark.parametrize("weighting", ["uniform", "reverse"])
@pytest.mark.parametrize("ks", ["1,3", "2,5,12"])
def test_nested_topk_has_the_losses_of_the_formula(weighting, ks):
    config = SaeConfig(kind="matryoshka_topk", ks=ks, weighting=weighting, expansion=2)
    sae, x = random_sae(config), random_rows()
    at = at_step(sae, dead=(2, 5, 7))
    found = config.variant.losses(sae, x, at)

    encoder, bias, decoder, pre_bias = parameters = leaves(sae)
    pre = (x.double() - pre_bias) @ encoder.T + bias
    counts = [int(count) for count in ks.split(",")]
    weights = [len(counts) - place if weighting == "reverse" else 1 for place in range(len(counts))]
    reconstruction = torch.zeros((), dtype=torch.float64)
    for count, weight in zip(counts, weights, strict=True):
        kept = torch.zeros_like(pre).scatter(1, pre.topk(count, dim=1).indices, 1.0)
        residual = x.double() - (kept * pre.relu()) @ decoder - pre_bias
        reconstruction = reconstruction + weight * residual.square().mean() / sum(weights)
    excitement = (x.double() - pre_bias.detach()) @ encoder.T + bias
    auxiliary = plain_auxiliary(excitement, residual, decoder, [2, 5, 7], at, counts[-1] / sae.n_latents)
    assert_same_losses(sae, found, parameters, reconstruction + 0.5 * auxiliary, reconstruction)


@pytest.mark.parametrize(("k", "groups"), [(1, "1/4,1"), (2, "1/16,1/8,1/4,1/2,1"), (12, "1/3,2/3,1")])
def test_nested_dictionaries_have_the_losses_of_the_formula(k, groups):
    config = SaeConfig(kind="matryoshka", k=k, groups=groups, expansion=2)
    sae, x = random_sae(config), random_rows()
    at = at_step(sae, dead=(2, 5, 7))
    found = config.variant.losses(sae, x, at)

    encoder, bias, decoder, pre_bias = parameters = leaves(sae)
    pre = (x.double() - pre_bias) @ encoder.T + bias
    n = min(k * x.shape[0], int((pre > 0).sum()))
    z = pre * (pre >= pre.detach().flatten().sort(descending=True).values[n - 1])
    sizes = Matryoshka(groups=groups).prefix_sizes(sae.n_latents)
    residuals = [x.double() - z[:, :size] @ decoder[:size] - pre_bias for size in sizes]
    reconstruction = sum(residual.square().mean() for residual in residuals) / len(sizes)
    excitement = (x.double() - pre_bias.detach()) @ encoder.T + bias
    auxiliary = plain_auxiliary(excitement, residuals[-1], decoder, [2, 5, 7], at, k / sae.n_latents)
    assert_same_losses(sae, found, parameters, reconstruction + 0.5 * auxiliary, reconstruction)


def test_a_prefix_reconstructs_better_than_one_of_a_plain_dictionary(planted, as_rows):
    rows = as_rows(planted(1000, 16, 24, 3, seed=100)[0])
    settings = {"k": 3, "expansion": 2, "n_steps": 300, "batch_size": 128, "learning_rate": 1e-2}
    left = {}
    for kind in ("batch_topk", "matryoshka"):
        sae = train(SaeConfig(kind=kind, **settings), rows, device=CPU).sae
        with torch.no_grad():
            z = sae.encode(rows.activations)
            z[:, 8:] = 0
            left[kind] = float((rows.activations - sae.decode(z)).square().sum())
    assert left["matryoshka"] < 0.9 * left["batch_topk"]
