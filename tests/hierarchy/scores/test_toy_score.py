"""A node score that is two changed files and a migration goes from its formula to SQL, commands and exports."""

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from tests.hierarchy.scores.checkout_with_score import COMMENT, EARLIER, NAME, changed_files, lay_checkout
from tests.waiting import rows_of


def jaccard(row):
    """The toy score by hand; None where it is undefined."""
    either = row["n_images"] + row["n_fire"] - row["n_both"]
    return None if 0 in (row["n_images"], row["n_fire"]) else pytest.approx(row["n_both"] / either, rel=1e-15)


@pytest.mark.slow
def test_a_toy_score_from_two_files_and_a_migration_to_sql_commands_and_exports(service, tmp_path):
    checkout, folder = tmp_path / "checkout", tmp_path / "study"
    path = os.pathsep.join(map(str, lay_checkout(checkout)))
    own = {str(file.relative_to(checkout)) for file in checkout.rglob("*") if file.is_file() and not file.is_symlink()}
    assert own == changed_files().keys()
    assert [file.split("/")[0] for file in sorted(own)] == ["migrations", "services", "services"]

    run = subprocess.run(
        [sys.executable, "-m", "tests.hierarchy.scores.checkout_with_score", str(folder)],
        env={**os.environ, **service.environment, "PYTHONPATH": path},
        cwd=checkout, capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    assert found["package"] == str(checkout / "services" / "hsae" / "__init__.py")
    assert set(found["states"]) == {"succeeded"}

    before, after, again = found["views"]
    assert list(before) == [name for name in after if name != NAME]
    assert after == before | {NAME: COMMENT}
    assert again == before

    rows = rows_of(service, "SELECT * FROM node_score WHERE analysis_id = 1")
    assert {row["basis"] for row in rows} == {"sae", "neuron"}
    for row in rows:
        assert row[NAME] == jaccard(row), row
    assert any(0 < row[NAME] < 1 for row in rows)
    assert rows_of(service, f"SELECT {NAME} FROM node_score WHERE analysis_id = {EARLIER}") == [{NAME: None}]

    stored = {(row["basis"], row["seed"], row["latent"], row["synset_id"]): row[NAME] for row in rows}
    assert found["listed"]
    for row in found["listed"]:
        assert row[NAME] == stored[row["basis"], row["seed"], row["latent"], row["synset_id"]]

    assert NAME in found["table"]
    assert found["in_memory"]
    for row in found["in_memory"]:
        assert row[NAME] == jaccard(row), row

    exported = pq.read_table(folder / "export" / "node_score.parquet").to_pylist()
    assert {row["n_fire"] == 0 for row in exported} == {True, False}
    for row in exported:
        assert row[NAME] == jaccard(row), row
    assert f"| `{NAME}` | float64 | {COMMENT} |" in (folder / "export" / "README.md").read_text()
