"""What holds for every kind: exported code, half-precision rows, the untrained state, planted directions."""

import dataclasses
import textwrap
from typing import Any

import pytest
import torch
from tests.sae.small_trainings import CPU, SHORT, assert_same_tensors

from hsae.pipeline.planning.study_file import read_spec
from hsae.sae.config import SaeConfig, initial_l0
from hsae.sae.evaluation.metrics import mean_l0
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.trainer import train
from hsae.sae.variants.variant import FigureStyle, SaeVariant

NEW = ["batch_topk", "matching_pursuit", "matryoshka", "matryoshka_topk"]


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
@pytest.mark.parametrize("kind", NEW)
def test_rows_of_half_precision_train_like_their_float32_values(kind, dtype, rows):
    config = SHORT[kind].model_copy(update={"n_steps": 8})
    narrow = dataclasses.replace(rows, activations=rows.activations.to(dtype))
    wide = dataclasses.replace(rows, activations=narrow.activations.float())
    first, second = train(config, narrow, device=CPU), train(config, wide, device=CPU)
    assert_same_tensors(first.sae.to_tensors(), second.sae.to_tensors())
    assert first.metrics == second.metrics


@pytest.mark.parametrize("kind", NEW)
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


@pytest.mark.parametrize("kind", NEW)
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
