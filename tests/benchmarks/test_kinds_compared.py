"""The table of kinds: a small run to its end."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hsae.demo import images_folder

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # the program itself, twice
PROGRAM = "benchmarks.findings.kinds_compared"


def run(*options):
    command = [sys.executable, "-m", PROGRAM, *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()


def test_a_small_run_has_kinds_and_baselines_and_goes_on_from_what_it_kept(tmp_path):
    keep, images = tmp_path / "kept.jsonl", tmp_path / "images"
    for source in sorted(images_folder().glob("n*"))[:40]:
        shutil.copytree(source, images / source.name)
    options = ["--images", str(images), "--kinds", "topk", "relu", "--l0", "8", "--seeds", "2", "--steps", "3"]
    report = json.loads(run(*options, "--keep", str(keep))[-1])
    rows = {row["name"]: row for row in report["table"]["rows"]}
    assert {"topk", "relu", "baseline exemplar", "baseline random"} <= set(rows)
    assert {rows[kind]["n_seeds"] for kind in ("topk", "relu")} == {2}
    assert 0 < rows["topk"]["measured_l0"] <= 8
    lines = keep.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    keep.write_text("".join(lines[:-1]))
    assert json.loads(run(*options, "--keep", str(keep))[-1])["table"] == report["table"]
