"""Exports: what the page says of the files is so, they load with other tools, and several come at once."""

import json
import re
import runpy

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import torch
from click.testing import CliRunner
from safetensors.torch import load
from sqlalchemy import select
from tests.pipeline.in_process import run_jobs
from tests.small import quick_scoring, register_small, small_request

from hsae.catalog import Dataset, Sae, Synset, transaction
from hsae.cli.main import cli
from hsae.pipeline.exports.export import export_analysis
from hsae.pipeline.planning.submit import submit
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.store.keys import weights_key

SAES = (
    SaeConfig(kind="topk", k=4, expansion=2, n_steps=30),
    SaeConfig(kind="relu", expansion=2, n_steps=30),
)


@pytest.fixture(scope="module")
def scored(make_service):
    """Study 1: a TopK and a ReLU SAE, analyses 1 and 2 of one layer."""
    service = make_service()
    register_small(service, n_classes=3)
    request = small_request(
        layers=(3,), saes=SAES, scoring=quick_scoring(n_shuffles=0, controls=("neuron",), embeddings="own")
    )
    assert set(run_jobs(service, submit(request, service.settings, service.sessions))) == {"succeeded"}
    return service


@pytest.fixture
def export(scored, monkeypatch, tmp_path):
    """Runs `hsae-admin results export ARGUMENTS -o FOLDER`."""
    for name, value in scored.environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: object):
        command = ["results", "export", *map(str, arguments), "-o", str(tmp_path / "out")]
        return CliRunner().invoke(cli, command), tmp_path / "out"

    return run


@pytest.fixture(scope="module")
def folders(scored):
    """Both analyses, exported."""
    targets = {number: scored.folder / f"export-{number}" for number in (1, 2)}
    for number, target in targets.items():
        export_analysis(number, target, scored.sessions, scored.store)
    return targets


def test_labels_stand_beside_wnids(scored, folders):
    with transaction(scored.sessions) as session:
        nodes = {row.wnid: row for row in session.scalars(select(Synset))}
    synsets = pq.read_table(folders[1] / "synsets.parquet").to_pylist()
    assert {row["synset"] for row in synsets} == set(nodes)
    for row in synsets:
        node = nodes[row["synset"]]
        assert (row["synset_name"], row["lemmas"], row["definition"]) == (node.name, node.lemmas, node.definition)
        assert (row["label"] is not None) == row["is_class"]
    assert sum(row["is_class"] for row in synsets) == 3
    assert {row["label"] for row in synsets if row["is_class"]} == {"n01384491", "n01482330", "n01503061"}
    for file, pairs in {
        "images": [("synset", "synset_name")],
        "closure": [("descendant", "descendant_name"), ("ancestor", "ancestor_name")],
        "node_score": [("synset", "synset_name")],
    }.items():
        table = pq.read_table(folders[1] / f"{file}.parquet")
        for wnid, name in pairs:
            assert table[name].to_pylist() == [nodes[one].name for one in table[wnid].to_pylist()]


@pytest.mark.parametrize(("number", "kind"), [(1, "topk"), (2, "relu")])
def test_the_sae_is_the_stored_object_with_its_config(scored, folders, number, kind):
    with transaction(scored.sessions) as session:
        sae = session.scalars(select(Sae).where(Sae.kind == kind)).one()
        root = session.scalars(select(Dataset.root)).one()
    stored = (folders[number] / "sae.safetensors").read_bytes()
    assert stored == scored.store.get(weights_key(sae.key, sae.weights_sha256), sha256=sae.weights_sha256)
    about = json.loads((folders[number] / "sae.json").read_text())
    assert (about["key"], about["config"], about["metrics"]) == (sae.key, sae.config, sae.metrics)
    analysis = json.loads((folders[number] / "analysis.json").read_text())
    assert (analysis["image_root"], analysis["layer"], analysis["analysis"]) == (root, 3, number)
    assert analysis["scoring"]["n_shuffles"] == 0


@pytest.mark.parametrize("number", [1, 2])
def test_the_page_describes_every_file_and_column_and_its_snippet_runs(folders, number, monkeypatch, tmp_path, capsys):
    page = (folders[number] / "README.md").read_text()
    for path in folders[number].iterdir():
        assert path.name == "README.md" or f"| `{path.name}` |" in page
        if path.suffix == ".parquet":
            section = page.split(f"## {path.name}\n")[1].split("\n## ")[0]
            for column in pq.read_schema(path).names:
                assert f"`{column}`" in section, column
            assert f"| `{path.name}` | {pq.read_metadata(path).num_rows} rows" in page
    z = sp.load_npz(folders[number] / "activations.npz")
    assert f"float32 [{z.shape[0]}, {z.shape[1]}]" in page
    tensors = load((folders[number] / "sae.safetensors").read_bytes())
    for name, tensor in tensors.items():
        assert f"| `{name}` | {list(tensor.shape)} |" in page
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    script = tmp_path / "load.py"
    script.write_text(snippet)
    monkeypatch.chdir(folders[number])
    loaded = runpy.run_path(str(script))
    assert capsys.readouterr().out.count("\n") == 2
    sae = SparseAutoencoder.from_tensors(tensors, SAES[number - 1])
    x = torch.randn(7, sae.d_model, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(loaded["encode"](x), sae.encode(x))
        torch.testing.assert_close(loaded["decode"](sae.encode(x)), sae(x))


@pytest.mark.parametrize("number", [1, 2])
def test_the_page_says_that_the_scores_are_in_sample(folders, number):
    heading, _, note, *_ = (folders[number] / "README.md").read_text().splitlines()
    assert heading.endswith(" on small, in-sample")
    assert note.startswith("In-sample: the images that trained the SAE also chose its latents")


def test_the_matrix_is_what_the_weights_give(scored, folders):
    """Someone with the files, the model and the images gets the same latents: here from the stored activations."""
    (shard,) = [key for key in scored.store.list("activations/") if "shard" in key]
    x = load(scored.store.get(shard))["activations"].float()
    z = sp.load_npz(folders[1] / "activations.npz").toarray()
    sae = SparseAutoencoder.from_tensors(load((folders[1] / "sae.safetensors").read_bytes()), SAES[0])
    with torch.inference_mode():
        np.testing.assert_allclose(sae.encode(x).numpy(), z, rtol=1e-5, atol=1e-6)


def test_several_at_once_have_a_folder_each(export):
    result, folder = export(1, "--analysis", 2)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "analysis-1", "analysis-2"]
    index = (folder / "README.md").read_text()
    assert "| `analysis-1` | dinov2-emoji | 3 | small | topk x2, in-sample |" in index
    assert "| `analysis-2` | dinov2-emoji | 3 | small | relu x2, in-sample |" in index
    assert (folder / "analysis-2" / "README.md").read_text().startswith("# Analysis 2: relu SAE x2")


def test_a_study(export):
    result, folder = export("--study", 1, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(row["id"], row["folder"]) for row in rows] == [(n, str(folder / f"analysis-{n}")) for n in (1, 2)]
    assert all(row["image_root"] for row in rows)


def test_the_default_is_the_latest_analysis_which_is_said(export):
    result, folder = export()
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("Analysis 2, the latest.")
    assert json.loads((folder / "analysis.json").read_text())["analysis"] == 2
    result, _ = export("--latest")
    assert "not an empty folder" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1, "--latest"), "one of the three"),
        ((1, "--study", 1), "one of the three"),
        ((1, 9), "no analysis 9"),
        (("--study", 9), "studies list"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(export, arguments, words):
    result, folder = export(*arguments)
    assert result.exit_code != 0
    assert words in result.stderr
    assert list(folder.parent.iterdir()) == []
