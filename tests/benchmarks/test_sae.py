"""The benchmarks of trainings: their arithmetic and goals, and small runs to their end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.measure import Row
from benchmarks.sae.contender import Fit
from benchmarks.sae.own_trainings import NARROW, OURS
from benchmarks.sae.plain_steps import DENSE, FIVE_PRODUCTS, ONE_PRODUCT
from benchmarks.sae.sae_training import narrow_quality, speed_rows
from benchmarks.sae.streaming import N_SAES, SIZES, Measured, Reads, Size, measured, report_rows
from benchmarks.sae.training_quality import figures

ROOT = Path(__file__).parents[2]
BOUNDS = {f"bound, {ONE_PRODUCT}": 1_000.0, f"bound, {FIVE_PRODUCTS}": 200.0}


def speeds(kind: str, **found: float) -> dict[str, Row]:
    named = {f"{kind}, {name.replace('_', ' ')}": value for name, value in found.items()}
    return {row.name: row for row in speed_rows(kind, BOUNDS | named)}


@pytest.mark.parametrize(("ours", "narrow", "met"), [(650.0, 900.0, True), (640.0, 890.0, False)])
def test_topk_has_the_bound_and_sparsify_for_goals(ours: float, narrow: float, met: bool) -> None:
    found = {f"topk, {OURS}": ours, f"topk, {NARROW}": narrow, "topk, sparsify 1": ours / 2 if met else ours / 1.9}
    found["topk, SAELens 6"] = 5_000.0
    rows = {row.name: row for row in speed_rows("topk", BOUNDS | found)}
    share, over = rows["topk: share of the one-product bound"], rows["topk: over sparsify 1"]
    assert (share.value, share.goal, share.met) == (ours / 1_000, 0.65, met)
    assert over.value == pytest.approx(2 if met else 1.9)
    assert (over.goal, over.met) == (2.0, met)
    in_bfloat16 = rows["topk in bfloat16: over sparsify 1"]
    assert in_bfloat16.value == pytest.approx(narrow / found["topk, sparsify 1"])
    assert in_bfloat16.goal == 3.0
    assert "topk: over the fastest peer" not in rows, "its goal is sparsify"
    assert rows["topk, SAELens 6"].value == 5_000
    assert rows[f"bound, {ONE_PRODUCT}, in turns with topk"].value == 1_000


def test_other_kinds_have_the_fastest_peer_for_a_goal() -> None:
    found = {f"relu, {OURS}": 600.0, f"relu, {DENSE}": 150.0, "relu, one 1": 100.0, "relu, another 2": 200.0}
    rows = {row.name: row for row in speed_rows("relu", BOUNDS | found)}
    over = rows["relu: over the fastest peer"]
    assert (over.value, over.goal, over.met) == (3.0, 3.0, True)
    assert rows["relu: over the plain dense step"].value == 4.0
    assert rows["relu: share of the one-product bound"].goal is None


def test_kinds_without_peers_or_without_us_have_no_ratio() -> None:
    alone = speeds("archetypal", hsae=500.0)
    assert [name for name, row in alone.items() if row.goal is not None] == []
    assert alone["archetypal: share of the one-product bound"].value == 0.5
    assert not any(":" in name for name in speeds("gated", SAELens_6=50.0)), "ours failed"


@pytest.mark.parametrize(("exact", "narrow", "met"), [(0.2, 0.2019, True), (0.2, 0.203, False), (0.2, 0.1, True)])
def test_bfloat16_may_cost_a_hundredth(exact: float, narrow: float, met: bool) -> None:
    rows = [Row(f"topk, {name}: held-out FVU", value, "") for name, value in ((OURS, exact), (NARROW, narrow))]
    (row,) = narrow_quality(rows)
    assert row.value == pytest.approx(narrow / exact - 1)
    assert row.met is met
    assert list(narrow_quality(rows[:1])) == [], "nothing where the processor has no instructions for it"


def test_figures_of_a_trained_sae() -> None:
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]])
    latents = torch.tensor([[0.0, 1.0, 0.0], [3.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    fvu, l0, dead = figures(Fit(x + torch.tensor([[0.0, 1.0]]), latents), x)
    mean = x.mean(dim=0)
    assert fvu == pytest.approx(3 / float((x - mean).square().sum()))
    assert [l0, dead] == pytest.approx([4 / 3, 1 / 3])


def streaming_rows(found: Measured, size: Size = SIZES["full"]) -> dict[str, Row]:
    return {row.name: row for row in report_rows(size, found)}


def test_memory_and_reads_have_the_goals_of_the_issue() -> None:
    size = SIZES["full"]
    allowed = 2 * 768 * 6_144 * 4 / 1e9 + 2 * 3 * 16_384 * 768 * 4 / 1e9 + 1
    reads = Reads(12, 24)
    good = Measured(100.0, 96.0, 90.0, allowed - 1e-6, alone=reads, together=Reads(12, 192))
    rows = streaming_rows(good, size)
    assert rows["peak memory of the streamed training"].goal == pytest.approx(allowed)
    assert rows[f"windows: shards read by {N_SAES} over one pass / by {N_SAES} alone"].value == 1 / 8
    assert {row.met for row in rows.values()} == {True, None}
    bad = Measured(100.0, 94.0, 84.0, allowed + 1e-6, alone=reads, together=Reads(13, 192))
    assert sum(row.met is False for row in streaming_rows(bad, size).values()) == 4
    assert streaming_rows(bad, SIZES["small"])["in memory"].met is False


@pytest.mark.slow
def test_a_small_sweep_reads_its_windows_once(service) -> None:
    size = Size(16, 8, n_shards=6, shard_rows=64, window_shards=2, batch_size=16)
    found = measured(size, service.store, torch.device("cpu"))
    assert found.together.for_windows == found.alone.for_windows == size.n_shards
    assert found.together.for_samples == N_SAES * found.alone.for_samples > 0
    assert min(found.held, found.streamed, found.sweep) > 0


@pytest.mark.slow  # the program itself
def test_a_small_run_ends_with_its_rows() -> None:
    sizes = ["--steps", "1", "--d-model", "16", "--batch", "32", "--threads", "1", "--quality-steps", "0"]
    command = [sys.executable, "-m", "benchmarks.sae.sae_training", "--kinds", "relu", "batch_topk", *sizes]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    names = {row["name"] for row in json.loads(lines[-1])["rows"]}
    assert {f"relu, {OURS}", f"batch_topk, {OURS}", "relu: over the plain dense step"} <= names
    assert all(row["value"] > 0 for row in json.loads(lines[-1])["rows"])
