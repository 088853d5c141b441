"""What holds for every kind: its start, its parts of a batch, its code in exported files, what it finds."""

import dataclasses
import textwrap
from typing import Any

import pytest
import torch
from tests.sae.small_trainings import CPU, KINDS, SHORT, assert_same_tensors

from hsae.pipeline.planning.study_file import read_spec
from hsae.sae.config import SaeConfig, initial_l0
from hsae.sae.evaluation.metrics import mean_l0
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.split import split_rows
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.trainer import train
from hsae.sae.variants import VARIANTS
from hsae.sae.variants.variant import FigureStyle, SaeVariant

WITH_A_COUNT = ["batch_topk", "matching_pursuit", "matryoshka", "matryoshka_topk"]
OF_OTHER_SETTINGS = {
    "gated": {"kind": "gated", "target_l0": 4},
    "jumprelu": {"kind": "jumprelu", "target_l0": 4},
    "jumprelu with tanh": {"kind": "jumprelu", "target_l0": 4, "penalty": "tanh"},
    "archetypal": {"kind": "archetypal", "k": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", OF_OTHER_SETTINGS.values(), ids=OF_OTHER_SETTINGS)
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


@pytest.mark.parametrize("config", SHORT.values(), ids=SHORT)
def test_the_exported_code_encodes_like_the_sae(config, rows):
    trained = train(config, rows, device=CPU).sae
    tensors, x = trained.to_tensors(), rows.activations
    lines = textwrap.indent(config.variant.export_code, "    ")
    scope: dict[str, Any] = {"torch": torch, "sae": tensors, "config": config.model_dump()}
    exec(f"def encode(x, pre):\n{lines}", scope)  # noqa: S102
    pre = (x.float() * tensors["input_scale"] - tensors["pre_bias"]) @ tensors["encoder_weight"].T
    with torch.no_grad():
        expected = trained.encode(x)
        torch.testing.assert_close(scope["encode"](x, pre + tensors["encoder_bias"]), expected)
    assert float(expected.min()) >= 0
    assert expected.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", WITH_A_COUNT)
def test_rows_of_half_precision_train_like_their_float32_values(kind, dtype, rows):
    config = SHORT[kind].model_copy(update={"n_steps": 8})
    narrow = dataclasses.replace(rows, activations=rows.activations.to(dtype))
    wide = dataclasses.replace(rows, activations=narrow.activations.float())
    first, second = train(config, narrow, device=CPU), train(config, wide, device=CPU)
    assert_same_tensors(first.sae.to_tensors(), second.sae.to_tensors())
    assert first.metrics == second.metrics


@pytest.mark.parametrize("kind", WITH_A_COUNT)
@pytest.mark.parametrize("fired", ["one", "half", "all"])
def test_an_untrained_sae_fires_as_often_as_a_trained_one_is_meant_to(kind, fired, planted, as_rows):
    rows = as_rows(planted(400, 16, 24, 3, seed=100)[0])
    n = {"one": 2, "half": 16, "all": 32}[fired]
    setting: dict[str, Any] = {"ks": f"1,{n}"} if kind == "matryoshka_topk" else {"k": n}
    config = SaeConfig(kind=kind, expansion=2, n_steps=3, batch_size=64, **setting)
    assert initial_l0(config, 16) == n
    sae = untrained_sae(config, rows)
    l0 = float(mean_l0(sae, rows.activations))
    # At most all that are positive; and a pursuit may take a direction more than once.
    assert 0.3 * n <= l0 <= 1.05 * n
    trained = train(config, rows, device=CPU)
    assert trained.metrics.train_l0 <= 1.3 * n


@pytest.mark.parametrize("kind", WITH_A_COUNT)
def test_planted_directions_are_found(kind, planted, as_rows):
    activations, directions = planted(1500, 16, 24, 3, seed=100)
    setting: dict[str, Any] = {"ks": "1,3"} if kind == "matryoshka_topk" else {"k": 3}
    setting |= {"groups": "1/2,1"} if kind == "matryoshka" else {}
    config = SaeConfig(kind=kind, expansion=2, n_steps=500, batch_size=128, learning_rate=1e-2, **setting)
    rows = as_rows(activations)
    found, before = train(config, rows, device=CPU).sae, untrained_sae(config, rows)
    cosine, cosine_before = (
        float((directions @ sae.decoder_weight.detach().T).max(dim=1).values.mean()) for sae in (found, before)
    )
    assert cosine_before < 0.7
    assert cosine > 0.85


def test_a_study_file_sweeps_over_lists(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "layers: 1\n"
        "saes:\n"
        "- {kind: [batch_topk, matching_pursuit], k: [4, 8]}\n"
        "- kind: matryoshka\n  k: 4\n  groups: ['1/2,1', '1/4,1']\n"
        "- kind: matryoshka_topk\n  ks: 4,8\n  weighting: [uniform, reverse]\n"
    )
    assert read_spec(path).saes == (
        *(SaeConfig(kind=kind, k=k) for kind in ("batch_topk", "matching_pursuit") for k in (4, 8)),
        *(SaeConfig(kind="matryoshka", k=4, groups=groups) for groups in ("1/2,1", "1/4,1")),
        *(SaeConfig(kind="matryoshka_topk", ks="4,8", weighting=weighting) for weighting in ("uniform", "reverse")),
    )


def test_a_kind_that_does_not_say_what_fires_is_refused():
    with pytest.raises(TypeError, match="Silent must define firing, or both encode and losses"):

        class Silent(SaeVariant):
            kind, title, style, export_code = "silent", "Silent SAE", FigureStyle("C0", "o", 1.0), "return pre"
