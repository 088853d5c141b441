"""The benchmark of an analysis with its controls: its arithmetic, and a small run to its end."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.hierarchy.controls import MAX_SECONDS, N_TRAIN_IMAGES, SIZES, Run, report_rows

ROOT = Path(__file__).parents[2]


def run(n_images, seconds):
    return Run(n_images, 64 * n_images, seconds, 1.5 * seconds, peak_gib=2.0, n_columns=100_000)


def test_linear_work_meets_the_goals_and_grows_to_imagenet():
    runs = [run(n_images, 10 + n_images / 1000) for n_images in (6_250, 12_500, 25_000, 50_000)]
    rows = {row.name: row for row in report_rows(SIZES["full"], runs, run(50_000, 9), run(25_000, 20))}
    everything = rows["everything, 50,000 images"]
    assert (everything.value, everything.goal, everything.met) == (60, MAX_SECONDS, True)
    (growth,) = [row for name, row in rows.items() if "last doubling of the images" in name]
    assert growth.value == pytest.approx(2)
    over_linear = rows["the one / the other: 1 is linear"]
    assert over_linear.value == pytest.approx(1)
    assert over_linear.met
    (there,) = [row for name, row in rows.items() if name.startswith(f"{N_TRAIN_IMAGES:,}")]
    assert there.value == pytest.approx(10 + N_TRAIN_IMAGES / 1000)
    assert all(row.met for row in rows.values() if row.goal is not None)


def test_quadratic_work_misses_them():
    runs = [run(n_images, (n_images / 3_000) ** 2) for n_images in (12_500, 25_000, 50_000)]
    rows = report_rows(replace(SIZES["full"], shares=(8, 4, 2, 1)), runs, run(50_000, 9), run(25_000, 60))
    assert [row.value for row in rows if "last doubling of the images" in row.name] == [pytest.approx(4)]
    assert [row.value for row in rows if "1 is linear" in row.name] == [pytest.approx(2)]
    assert not any(row.met for row in rows if "1 is linear" in row.name or "half of the columns" in row.name)


def test_more_columns_with_more_images_may_cost_more():
    """A quarter of the images has half of the clusters: work that is linear in both then adds more than twice."""
    counts = [(12_500, 100_000), (25_000, 150_000), (50_000, 200_000)]
    runs = [replace(run(n, n * columns / 1e8), n_columns=columns) for n, columns in counts]
    rows = {row.name: row for row in report_rows(SIZES["full"], runs, run(50_000, 9), run(25_000, 20))}
    assert rows["the same of images x columns of all bases"].value == pytest.approx(2.5)
    assert rows["the one / the other: 1 is linear"].value == pytest.approx(1)


def test_an_eighth_of_imagenet_is_taken_eight_times():
    size = SIZES["train"]
    assert size.n_images == N_TRAIN_IMAGES // 8
    rows = report_rows(size, [run(size.n_images, 200)], run(size.n_images, 9), None)
    assert [(row.value, row.met) for row in rows if row.goal is not None] == [(2.0, True), (1600, True)]


@pytest.mark.parametrize("size", ["full", "train"])
def test_the_memory_goal_is_six_gb(size):
    """6e9 bytes are 5.59 GiB."""
    for peak_gib, met in ((5.58, True), (5.6, False)):
        whole = replace(run(SIZES[size].n_images, 200), peak_gib=peak_gib)
        (row,) = [row for row in report_rows(SIZES[size], [whole], whole, None) if row.name.startswith("peak memory")]
        assert (row.value, row.unit, row.met) == (peak_gib, "GiB", met)


@pytest.mark.slow  # the program itself
def test_a_small_run_ends_with_its_rows():
    command = [sys.executable, "-m", "benchmarks.hierarchy.controls"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    report = json.loads(lines[-1])
    assert {row["name"] for row in report["rows"]} >= {"everything, 1,000 images", "peak memory of the process"}
    assert all(row["goal"] is None for row in report["rows"])
    assert sum("15 bases" in line for line in lines) == 3
