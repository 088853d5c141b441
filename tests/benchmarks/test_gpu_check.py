"""`make gpu-check`: what it says without a GPU, that its limits add up, and that its parts run, small, on the CPU."""

import contextlib
import json
import re
import runpy
import sys
from pathlib import Path

import psutil
import pytest
import torch
from benchmarks.gpu import backbone_rate, check, sae_steps
from benchmarks.gpu.check import MOST_SECONDS, PARTS, RESULTS, Part, report_of, result_file, run

ROOT = RESULTS.parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so_and_measures_nothing(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["check"])
    before = set(RESULTS.iterdir())
    assert check.main() == 0
    said = capsys.readouterr().out
    assert said.startswith("No GPU was used: torch sees no CUDA device.")
    assert all(part.name in said for part in PARTS)
    assert "Nothing was measured" in said
    assert json.loads(said.splitlines()[-1])["rows"] == []
    assert set(RESULTS.iterdir()) == before


def test_it_takes_less_than_eight_minutes_by_design():
    assert sum(part.seconds for part in PARTS) <= MOST_SECONDS < 480


def test_every_part_can_be_started(monkeypatch, capsys):
    for part in PARTS:
        module = part.arguments[1]
        folders = [argument for argument in part.arguments if argument.startswith("tests/")]
        assert all((ROOT / folder).exists() for folder in folders)
        if module != "pytest":
            assert (ROOT / Path(*module.split("."))).with_suffix(".py").is_file()
            options = {argument for argument in part.arguments[2:] if argument.startswith("--")}
            monkeypatch.setattr(sys, "argv", [module, "--help"])
            with pytest.raises(SystemExit, match="0"):
                runpy.run_module(module, run_name="__main__")
            described = capsys.readouterr().out
            assert all(option in described for option in options)


def test_the_tests_of_the_gpu_are_found_by_their_marker():
    (tests,) = [part for part in PARTS if not part.has_rows]
    marked = {
        path.relative_to(ROOT)
        for path in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.gpu" in path.read_text() and path != Path(__file__)
    }
    folders = [Path(argument) for argument in tests.arguments if argument.startswith("tests/")]
    skipped = {
        path.relative_to(ROOT)
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"skipif\(not torch\.cuda\.is_available", path.read_text())
    }
    assert skipped <= marked, "skipped without a GPU, and not run with one"
    assert marked
    assert all(any(path.is_relative_to(folder) for folder in folders) for path in marked)


def test_a_part_that_fails_is_a_failure(tmp_path):
    figures = 'print("hello"); print(\'{"rows": [{"name": "speed", "value": 1.0}]}\')'
    outcomes = [
        run(Part("good", ("-c", figures), 100), tmp_path),
        run(Part("bad", ("-c", "raise SystemExit(3)"), 100), tmp_path),
        run(Part("silent", ("-c", "print(1)"), 100), tmp_path),
        run(Part("tests", ("-c", "print(1)"), 100, has_rows=False), tmp_path),
    ]
    report = report_of(outcomes)
    assert report["failed"] == {"bad": "ended with 3", "silent": "its last line has no figures"}
    assert [row["name"] for row in report["rows"]][:2] == ["good: speed", "good: seconds"]


def test_a_part_that_takes_too_long_ends_with_all_that_it_started(tmp_path):
    """The server of a benchmark, say, in the same session."""
    started = tmp_path / "started"
    server = (
        "import os, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    )
    server += f" open({str(started)!r}, 'w').write(str(child.pid)); child.wait()"
    outcome = run(Part("slow", ("-c", server), 10), tmp_path)
    assert outcome.failure == "ended after its 10 s"
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(started.read_text())).wait(60)


def test_the_file_of_a_card():
    assert result_file("NVIDIA H100 80GB HBM3", Path("x")) == Path("x/gpu_check-nvidia-h100-80gb-hbm3.json")


@pytest.mark.parametrize("module", [backbone_rate, sae_steps])
def test_the_benchmarks_run_at_a_tiny_size(module, capsys, monkeypatch):
    more = ["--batches", "1"] if module is backbone_rate else []
    monkeypatch.setattr(sys, "argv", ["benchmark", "--size", "tiny", "--device", "cpu", *more])
    module.main()
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert rows
    assert all(row["value"] > 0 for row in rows)
    if module is backbone_rate:
        with_goal = {row["name"] for row in rows if row["goal"] == backbone_rate.MIN_SHARE}
        assert with_goal == {"passes / product, bfloat16", "passes from JPEGs / product, bfloat16"}
        assert "images per second from JPEGs, bfloat16" in {row["name"] for row in rows}
