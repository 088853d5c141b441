"""Settings: what is refused and in which words, and the rules that fill in the blanks."""

import pytest
from pydantic import BaseModel, ValidationError

from hsae.errors import UserError
from hsae.sae.config import SaeConfig, check_config, n_latents_of
from hsae.sae.schedule import resolve_dead_after_steps, resolve_schedule
from hsae.sae.variants import VARIANTS, own_settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"expansion": 0}, "expansion 0 is out of range: choose 1..512"),
        ({"expansion": 1000}, "expansion 1000 is out of range: choose 1..512"),
        ({"kind": "topk", "k": 0}, "k 0 is out of range: choose at least 1"),
        ({"learning_rate": 0.0}, "learning_rate 0.0 is out of range: choose more than 0 and at most 1"),
        ({"holdout_share": 0.95}, "holdout_share 0.95 is out of range: choose 0..0.9"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"kind": "dense"}, f"kind 'dense' is not valid: input should be {', '.join(map(repr, [*VARIANTS][:-1]))} or "),
        ({"expansion": "many"}, "expansion 'many' is not valid"),
        ({"l1_coefficient": float("nan")}, "l1_coefficient nan is not valid"),
        ({"l1": 3.0}, f"l1 is no setting of an SAE: choose from kind, expansion, {next(iter(own_settings()))}, "),
        ({"kind": "topk", "l1_coefficient": 0.5}, "l1_coefficient does not apply to a topk SAE"),
        ({"kind": "relu", "k": 16}, "k does not apply to a relu SAE"),
        ({"kind": "topk", "target_l0": 16}, "target_l0 does not apply to a topk SAE"),
        ({"target_l0": 0}, "target_l0 0 is out of range: choose more than 0"),
        ({"l1_coefficient": 0.3, "target_l0": 16}, "l1_coefficient and target_l0 cannot be given together"),
        ({"kind": "soft_frozen", "min_cosine": 1.0}, "min_cosine 1.0 is out of range"),
        ({"lr_warmup_share": 0.6, "lr_decay_share": 0.6}, "lr_warmup_share 0.6 and lr_decay_share 0.6 overlap"),
    ],
)
def test_refuses_in_one_line(values, message):
    with pytest.raises(UserError) as error:
        SaeConfig(**values)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError):
        SaeConfig.parse(values)


def test_errors_pass_through_a_model_that_contains_one():
    class Request(BaseModel):
        sae: SaeConfig

    with pytest.raises(UserError, match="expansion 0 is out of range"):
        Request.model_validate({"sae": {"expansion": 0}})


def test_is_frozen_and_survives_json():
    config = SaeConfig(kind="topk", k=16, n_steps=10, seed=7)
    assert SaeConfig.model_validate_json(config.model_dump_json()) == config
    assert SaeConfig.parse(config.model_dump()) == config
    with pytest.raises(ValidationError, match="frozen"):
        config.k = 3  # type: ignore[attr-defined]


def test_check_config_compares_with_the_dictionary():
    check_config(SaeConfig(kind="topk", k=1536), 192)
    with pytest.raises(UserError) as error:
        check_config(SaeConfig(kind="topk", k=2000), 192)
    assert str(error.value) == (
        "k=2000 is larger than the 1536 latents of expansion 8 at d_model 192: choose k in 1..1536"
    )
    with pytest.raises(UserError, match="k_aux=17 is larger than the 16 latents"):
        check_config(SaeConfig(expansion=1, k_aux=17), 16)
    check_config(SaeConfig(expansion=1), 16)  # k's default of 32 says nothing about a ReLU SAE
    assert n_latents_of(SaeConfig(), 1536) == 12_288


@pytest.mark.parametrize(
    ("config", "own"),
    [
        (SaeConfig(kind="relu", l1_coefficient=0.7, n_steps=9), {"l1_coefficient", "l1_warmup_share"}),
        (SaeConfig(kind="relu", target_l0=12.5), {"target_l0", "l1_warmup_share"}),
        (SaeConfig(kind="topk", k=5, seed=2**62), {"k"}),
        (SaeConfig(kind="soft_frozen", k=5), {"k", "min_cosine"}),
        (SaeConfig(kind="jumprelu"), {"l0_coefficient", "l0_warmup_share", "penalty", "bandwidth"}),
        (SaeConfig(kind="archetypal"), {"k", "n_points", "delta"}),
        (SaeConfig(kind="matryoshka", k=5), {"k", "groups"}),
        (SaeConfig(kind="matryoshka_topk", ks="2,5"), {"ks", "weighting"}),
    ],
)
def test_a_written_config_leaves_out_the_other_kinds(config, own):
    values = config.model_dump()
    later = {"dead_latents", "rows", "window_shards", "precision", "part_rows"}  # left out at their defaults
    assert set(values) == set(SaeConfig.defaults()) - (set(own_settings()) - own) - later
    assert not any(f'"{name}"' in config.model_dump_json() for name in set(own_settings()) - own)
    assert SaeConfig.parse(values) == config
    assert SaeConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "n_steps", "dead_after_steps"),
    [
        (10, 10, 1_000, 2),
        (900, 64, 1_000, 30),
        (1_100, 64, 1_000, 36),
        (50_000, 2_048, 1_220, 50),
        (1_300_000, 4_096, 15_869, 636),
        (5_000_000, 4_096, 20_000, 1_000),
    ],
)
def test_the_schedule_of_a_number_of_rows(n_rows, batch_size, n_steps, dead_after_steps):
    assert resolve_schedule(SaeConfig(), n_rows) == (batch_size, n_steps)
    assert resolve_dead_after_steps(SaeConfig(), n_rows) == dead_after_steps
    assert resolve_schedule(SaeConfig(n_steps=7, batch_size=5), n_rows) == (5, 7)
    assert resolve_dead_after_steps(SaeConfig(dead_after_steps=3), n_rows) == 3
