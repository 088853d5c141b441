"""The benchmark of an extraction: its arithmetic and goals, and a small run to its end."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks.extraction import both, throughput
from benchmarks.extraction.registration import N_TRAIN_IMAGES, Registration, registration_rows
from benchmarks.extraction.throughput import Contender, ratio_rows, warm_up
from benchmarks.measure import Row

from hsae.backbones.passes.measured_parts import MEASURED_AT

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


@pytest.mark.parametrize(("n_images", "calls"), [
    (2_000, [(0, 33 * 32)]), (70, [(0, 64)] * 16 + [(0, 32)]), (20, [(0, 20)] * 33),
])  # fmt: skip
def test_hsae_warms_up_beyond_the_batch_at_which_it_measures_its_parts(
    n_images: int, calls: list[tuple[int, int]]
) -> None:
    seen: list[tuple[int, int]] = []
    setting = SimpleNamespace(n_images=n_images, extraction=SimpleNamespace(batch_size=32))
    warm_up(Contender(lambda first, end: seen.append((first, end))), setting, MEASURED_AT + 1)  # type: ignore[arg-type]
    assert seen == calls
    if n_images >= 32:
        assert sum((end - first) // 32 for first, end in seen) == MEASURED_AT + 1


def printing(name: str) -> tuple[str, str]:
    report = {
        "rows": [{"name": name}], "machine": name, "versions": {}, "table": {name: 1}, "not_measured": [f"no {name}"]
    }  # fmt: skip
    return "-c", f"print('measures'); print({json.dumps(report)!r})"


def test_both_programs_end_with_one_report(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(both, "PROGRAMS", (printing("first"), printing("second")))
    monkeypatch.setattr(sys, "argv", ["both"])
    both.main()
    *printed, last = capfd.readouterr().out.splitlines()
    assert printed == ["measures", "measures"]
    assert json.loads(last) == {
        "rows": [{"name": "first"}, {"name": "second"}], "machine": "first", "versions": {},
        "table": {"first": 1, "second": 1}, "not_measured": ["no first", "no second"],
    }  # fmt: skip
    monkeypatch.setattr(both, "PROGRAMS", (printing("first"), ("-c", "print('why'); raise SystemExit(3)")))
    with pytest.raises(SystemExit, match="ended with 3; nothing is reported"):
        both.main()
    assert capfd.readouterr().out.splitlines() == ["measures", "why"]


@pytest.mark.slow  # the program itself
def test_a_small_run_ends_with_its_rows() -> None:
    small = ["--images", "16", "--turns", "2", "--batch-size", "4", "--files", "2000", "--warm-up", "2"]
    command = [sys.executable, "-m", "benchmarks.extraction.throughput", *small]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    report = json.loads(lines[-1])
    names = {row["name"] for row in report["rows"]}
    assert names >= {"hsae / bare model", "hsae / plain float32 loop", "stored bytes beyond the raw activations"}
    assert any(name.startswith("registering 2,000 files") for name in names)
