"""The benchmark of an extraction: its arithmetic and goals, and a small run to its end."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks.extraction import throughput
from benchmarks.extraction.registration import N_TRAIN_IMAGES, Registration, registration_rows
from benchmarks.extraction.throughput import Contender, ratio_rows
from benchmarks.measure import Row

ROOT = Path(__file__).parents[2]


def contenders(*seconds: float) -> list[tuple[str, Contender]]:
    return [(str(n), Contender(lambda first, end: None, [one], [2 * one])) for n, one in enumerate(seconds)]


def rows_of(n_images: int, *seconds: float) -> dict[str, Row]:
    setting = SimpleNamespace(n_images=n_images, part_layers=range(4))
    return {row.name: row for row in ratio_rows(contenders(*seconds), setting)}  # type: ignore[arg-type]


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_ratios_have_their_goals_at_full_size_alone(monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool) -> None:
    monkeypatch.setattr(throughput, "processor_has_bfloat16", lambda: has_bfloat16)
    rows = rows_of(2_000, 10.0, 9.8, 3.0, 24.0)  # hsae, bare, part, loop
    assert rows["0"].value == 200
    bare, loop, part = (rows[f"hsae{rest}"] for rest in (
        " / bare model", " / plain float32 loop", ", layers 0 to 3 / all layers"))  # fmt: skip
    assert [row.value for row in (bare, part, loop)] == pytest.approx([0.98, 10 / 3, 2.4])
    assert [row.met for row in (bare, part, loop)] == [True, True, False if has_bfloat16 else None]
    assert rows["hsae / bare model, by processors' time"].goal is None
    assert all(row.goal is None for row in rows_of(128, 10.0, 9.8, 3.0, 24.0).values())


def test_registration_grows_to_imagenet() -> None:
    half, whole = Registration(50_000, 4.0, 6.0, 200.0, 250.0), Registration(100_000, 8.0, 12.0, 200.0, 300.0)
    rows = registration_rows(half, whole, goal_files=100_000)
    assert [row.met for row in rows if row.goal is not None] == [True, True]
    by_arithmetic = [row.value for row in rows if "arithmetic" in row.name]
    assert by_arithmetic == pytest.approx([8 * N_TRAIN_IMAGES / 100_000, 200 + N_TRAIN_IMAGES / 1_000])
    assert all(row.goal is None for row in registration_rows(half, whole, goal_files=7))


@pytest.mark.slow  # the program itself
def test_a_small_run_ends_with_its_rows() -> None:
    small = ["--images", "16", "--turns", "2", "--batch-size", "4", "--files", "2000"]
    command = [sys.executable, "-m", "benchmarks.extraction.throughput", *small]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    report = json.loads(lines[-1])
    names = {row["name"] for row in report["rows"]}
    assert names >= {"hsae / bare model", "hsae / plain float32 loop", "stored bytes beyond the raw activations"}
    assert any(name.startswith("registering 2,000 files") for name in names)
