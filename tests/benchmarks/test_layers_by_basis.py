"""The table layer x basis: a small run to its end."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hsae.demo import backbone_folder, images_folder

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # the program itself, twice
PROGRAM = "benchmarks.findings.layers_by_basis"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve classes of the demo."""
    folder = tmp_path_factory.mktemp("images")
    for source in sorted(images_folder().glob("n*"))[:12]:
        shutil.copytree(source, folder / source.name)
    return folder


def run(images, *options):
    command = [sys.executable, "-m", PROGRAM, str(images), str(backbone_folder()), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()


def test_a_small_run_has_every_basis_at_every_block_and_goes_on_from_what_it_kept(images, tmp_path):
    keep = tmp_path / "kept.jsonl"
    options = ["--seeds", "2", "--steps", "3", "--blocks", "0", "5", "--replicates", "4", "--keep", str(keep)]
    report = json.loads(run(images, *options)[-1])
    table = report["table"]
    assert {(one["block"], one["basis"]) for one in table["bases"]} >= {
        (0, "sae"),
        (5, "exemplar"),
        (5, "shuffled_taxonomy"),
    }
    assert [block["seeds"] for block in table["blocks"]] == [[0, 1], [0, 1]]
    assert {one["n_seeds"] for one in table["bases"] if one["basis"] == "sae"} == {2}
    assert table["missing"] == []
    assert {"sae", "kmeans"} <= {one["basis"] for one in table["slopes_per_block"]}
    assert len(keep.read_text().splitlines()) == 4
    lines = keep.read_text().splitlines(keepends=True)
    keep.write_text("".join(lines[:-1]))
    assert json.loads(run(images, *options)[-1])["table"] == table
    assert len(keep.read_text().splitlines()) == 4
