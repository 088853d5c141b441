"""Points of a curve: which steps, what they measure, and that a resumed training finds the same ones."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.sae.small_trainings import CPU, SHORT, assert_same_tensors

from hsae.sae.config import SaeConfig
from hsae.sae.evaluation.curve import CurveMeasure, is_point, n_points
from hsae.sae.evaluation.metrics import measure_reconstruction
from hsae.sae.rows.split import split_rows
from hsae.sae.schedule import Schedule
from hsae.sae.training.trainer import CheckpointSaving, train


@given(st.integers(1, 3_000), st.integers(1, 200))
def test_points_are_evenly_spaced_and_end_with_the_last_step(n_steps, wanted):
    found = [step for step in range(1, n_steps + 1) if is_point(step, n_steps, wanted)]
    assert len(found) == min(n_steps, wanted)
    assert found[-1] == n_steps
    gaps = {after - before for before, after in zip([0, *found], found, strict=False)}
    assert max(gaps) - min(gaps) <= 1


def test_a_point_costs_little_and_there_are_10_to_200():
    assert n_points(Schedule(4_096, 20_000), 2_048) == 200
    assert n_points(Schedule(64, 1_258), 358) == 10
    assert n_points(Schedule(64, 7), 358) == 7
    assert n_points(Schedule(256, 20_000), 2_048) == 78


def points(config, rows, **options):
    found = {}

    def take(report):
        if report.measure is not None:
            found[report.step] = report.measure()

    return train(config, rows, device=CPU, on_step=take, **options), found


@pytest.mark.parametrize("kind", SHORT)
def test_the_last_point_is_what_the_metrics_say_and_looking_changes_no_bit(kind, rows):
    config = SHORT[kind].model_copy(update={"holdout_share": 0.3})
    trained, found = points(config, rows)
    assert list(found) == list(range(4, 41, 4))
    last, metrics = found[40], trained.metrics
    assert last.fvu == pytest.approx(metrics.fvu, rel=1e-6)
    assert (last.l0, last.train_l0) == (metrics.l0, metrics.train_l0)
    assert last.train_fvu == pytest.approx(metrics.train_fvu, rel=1e-6)
    assert last.learning_rate < found[20].learning_rate == config.learning_rate
    unseen = train(config, rows, device=CPU)
    assert_same_tensors(trained.sae.to_tensors(), unseen.sae.to_tensors())
    assert dataclasses.asdict(unseen.metrics) == dataclasses.asdict(metrics)


def test_a_resumed_training_finds_the_same_points(rows):
    saved = []
    config = SHORT["topk"]
    _, whole = points(config, rows, saving=CheckpointSaving(lambda: not saved, saved.append))
    _, rest = points(config, rows, checkpoint=saved[0])
    assert rest == {step: point for step, point in whole.items() if step > int(saved[0].metadata["step"])}
    assert {point.dead_share for point in whole.values()} != {0.0}


def test_nothing_held_out_and_rows_that_do_not_vary_have_none(rows):
    _, found = points(SHORT["relu"].model_copy(update={"holdout_share": 0.0}), rows)
    assert {(point.fvu, point.l0) for point in found.values()} == {(None, None)}
    assert all(point.train_fvu > 0 for point in found.values())
    equal = dataclasses.replace(rows, activations=torch.ones_like(rows.activations))
    sae = train(SHORT["topk"], rows, device=CPU).sae
    split = split_rows(rows, holdout_share=0.1, seed=0)
    point = CurveMeasure(equal, split, Schedule(1, 1), 0, CPU).measure(sae, dead_share=0.0, learning_rate=1.0)
    assert (point.fvu, point.train_fvu) == (None, None)


def test_blocks_of_rows_change_nothing_but_rounding(rows, monkeypatch):
    sae = train(SaeConfig(kind="topk", k=2, expansion=4, n_steps=20), rows, device=CPU).sae
    split = split_rows(rows, holdout_share=0.5, seed=0)
    monkeypatch.setattr("hsae.sae.evaluation.curve._BLOCK_VALUES", sae.n_latents * 7)
    found = CurveMeasure(rows, split, Schedule(1, 1), 0, CPU).measure(sae, dead_share=0.0, learning_rate=1.0)
    whole = measure_reconstruction(sae, rows, split.holdout, CPU)
    assert found.fvu == pytest.approx(whole.fvu, rel=1e-6)
    assert found.l0 == whole.l0
