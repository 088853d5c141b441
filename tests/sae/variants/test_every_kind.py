"""What holds for every kind: its start, its parts of a batch, its code in exported files, what it finds."""

import textwrap

import pytest
import torch
from tests.sae.small_trainings import CPU, KINDS

from hsae.sae.config import SaeConfig, initial_l0
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.split import split_rows
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.trainer import train
from hsae.sae.variants import VARIANTS

NEW = {
    "gated": {"kind": "gated", "target_l0": 4},
    "jumprelu": {"kind": "jumprelu", "target_l0": 4},
    "jumprelu with tanh": {"kind": "jumprelu", "target_l0": 4, "penalty": "tanh"},
    "archetypal": {"kind": "archetypal", "k": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", NEW.values(), ids=NEW)
def test_finds_a_planted_dictionary(settings, planted, as_rows):
    # The data's seed is not the training's: equal ones would start the SAE at the planted directions themselves.
    activations, directions = planted(2000, 16, 24, 3, seed=100)
    config = SaeConfig(**settings, expansion=2, n_steps=800, batch_size=128, learning_rate=1e-2)
    trained = train(config, as_rows(activations), device=CPU)
    cosines = directions @ trained.sae.decoder_weight.detach().T
    assert float(cosines.max(dim=1).values.mean()) > 0.9
    assert trained.metrics.fvu < 0.1
    assert trained.metrics.l0 < 4.5
    if "target_l0" in settings:
        assert trained.metrics.of_kind["reached_target_l0"] is True


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_latents_fire_before_the_first_step_as_the_kind_says(kind, planted, as_rows):
    rows = as_rows(planted(1000, 16, 24, 3, seed=100)[0])
    config = KINDS[kind]
    sae = untrained_sae(config, rows)
    with torch.no_grad():
        x = rows.activations[split_rows(rows, holdout_share=0.1, seed=0).train]
        l0 = float((sae.encode(x) > 0).sum(dim=1).float().mean())
    # Of a fixed number a row has less where fewer latents are positive.
    assert (0.4 if {"k", "ks"} & set(config.variant.settings()) else 0.8) < l0 / initial_l0(config, 16) < 1.2


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_of_a_batch_add_up(kind, rows):
    # The auxiliary loss is taken per part.
    config = KINDS[kind].model_copy(update={"n_steps": 4, "aux_coefficient": 0.0, "learning_rate": 1e-3})
    whole = train(config, rows, device=CPU)
    parts = train(config.model_copy(update={"part_rows": 12}), rows, device=CPU)
    found = parts.sae.to_tensors()
    for name, tensor in whole.sae.to_tensors().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=2e-4)
    assert parts.metrics.reconstruction_loss == pytest.approx(whole.metrics.reconstruction_loss, rel=1e-3)


@pytest.mark.parametrize("kind", VARIANTS)
def test_the_code_in_exported_files_encodes(kind):
    config = SaeConfig(kind=kind, expansion=4)
    sae = SparseAutoencoder(config, 16)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(9, 16, generator=generator)
    names: dict = {"torch": torch}
    exec("def encode(x, pre, sae, config):\n" + textwrap.indent(config.variant.export_code, "    "), names)  # noqa: S102
    tensors = sae.to_tensors()
    with torch.no_grad():
        pre = (x - tensors["pre_bias"]) @ tensors["encoder_weight"].T + tensors["encoder_bias"]
        found = names["encode"](x, pre, tensors, config.model_dump(mode="json"))
        torch.testing.assert_close(found, sae.encode(x), rtol=1e-4, atol=1e-4)
