"""Results of a study with several settings of a kind: each has its name, in every table and in the picture."""

import json

import pytest
from PIL import Image
from sqlalchemy import text
from tests.planted_scores import ID, plant, plant_probe

from hsae.catalog import Analysis, LatentEdge, LayerScore, Sae, transaction
from hsae.cli import demo
from hsae.cli.framework.connections import Connections
from hsae.cli.results.layers import fetch_layers

K = {2: 4, 3: 16, 4: 32}
"""Of layer 5, the k of each analysis' TopK SAE; all of them are in study 2."""


@pytest.fixture(scope="module")
def swept(make_service):
    """The planted studies; analysis 2 is of a TopK SAE, and study 2 has two more of its layer, one of them wider."""
    service = make_service()
    plant(service)
    with transaction(service.sessions) as session:
        second = session.get_one(Analysis, 2)
        first = session.get_one(Sae, second.sae_id)
        first.kind, first.config = "topk", {"kind": "topk", "expansion": 2, "k": 4}
        for number, expansion in ((3, 2), (4, 4)):
            sae = Sae(
                key=f"sae-{number}", activation_set_id=first.activation_set_id, job_id=first.job_id, kind="topk",
                config={"kind": "topk", "expansion": expansion, "k": K[number]}, expansion=expansion, n_latents=200,
                seed=0, n_steps=1, cosine=0.9, l0=3.0, dead_share=0.0, metrics={}, weights_sha256="0",
            )  # fmt: skip
            session.add(sae)
            session.flush()
            session.add(
                Analysis(id=number, key=f"analysis-{number}", sae_id=sae.id, dataset_id=1, job_id=second.job_id,
                         config={}, n_images=40, activations_sha256="0", class_sums_sha256="0")
            )  # fmt: skip
            session.flush()
            for basis in ("sae", "shuffled_taxonomy"):
                session.add(
                    LayerScore(analysis_id=number, basis=basis, seed=0, n_latents=200, n_dead=0, dead_share=0.0,
                               l0=3.0, n_nodes=5, by_height=[], best_f1_inner_mean=number / 10)
                )  # fmt: skip
        session.execute(
            text(
                "INSERT INTO latent (analysis_id, basis, latent, is_dead, n_fire, density, n_associated,"
                " label_synset_id, label_f1, top_images)"
                " SELECT a.id, basis, latent, is_dead, n_fire, density, n_associated, label_synset_id, label_f1,"
                " top_images FROM latent, (VALUES (3), (4)) a (id) WHERE analysis_id = 2"
            )
        )
        for number in K:
            dog = 100 + ID["dog.n.01"]
            session.add(
                LatentEdge(analysis_id=number, basis="sae", seed=0, source="activation", parent=dog, child=dog,
                           n_parent=9, n_child=8, n_both=8, implication=1.0)
            )  # fmt: skip
        plant_probe(session, 2, [(1, 2, 0.7, 0.5, 0.6)])
    return service


NAMES = {2: "topk x2 k=4", 3: "topk x2 k=16", 4: "topk x4 k=32"}


@pytest.mark.parametrize("command", ["latents", "edges", "layers"])
def test_settings_of_one_kind_have_different_names(admin, swept, command):
    rows = json.loads(admin(swept, "results", command, "--json").stdout)
    assert {row["analysis_id"]: row["sae"] for row in rows} == NAMES
    narrowed = (
        json.loads(admin(swept, "results", command, "--analysis", 3, "--json").stdout) if command != "layers" else []
    )
    assert {row["sae"] for row in narrowed} <= {"topk"}  # nothing to tell it from


def test_nodes_and_tree_name_the_settings_that_are_shown(admin, swept):
    rows = json.loads(admin(swept, "results", "nodes", "--study", "all", "--json").stdout)
    assert {row["analysis_id"]: row["sae"] for row in rows} == {1: "relu", 2: "topk"}
    tree = json.loads(admin(swept, "results", "tree", "dog.n.01", "--json").stdout)
    assert tree["nodes"][0]["sae"] == "topk"


def test_the_tables_show_the_names(admin, swept):
    for command in ("latents", "edges"):
        shown = admin(swept, "results", command).stdout.split()
        for name in NAMES.values():
            assert set(name.split()) <= set(shown), shown
    layers = admin(swept, "results", "layers").stdout
    for title in ("topk SAE x2 (k=4), cls of", "topk SAE x2 (k=16), cls of", "topk SAE x4 (k=32), cls of"):
        assert title in layers
    compared = admin(swept, "results", "compare", 2, 3).output
    assert "A: analysis 2: topk SAE x2 (k=4), cls of planted/vit, planted, in-sample, layer 5" in compared
    assert "B: analysis 3: topk SAE x2 (k=16), cls of planted/vit, planted, in-sample, layer 5" in compared
    assert "cls of planted/vit, planted, in-sample layer" in " ".join(admin(swept, "results", "levels").stdout.split())


def test_the_demo_shows_the_nodes_of_one_analysis_that_is_fixed_beforehand(swept, capsys):
    """Of its TopK SAEs that of the last block, though the ReLU SAE of block 2 has the greatest F1 at dog.n.01."""
    connections = Connections()
    connections.use(swept.settings)
    demo._print_nodes(connections, fetch_layers(connections, study="all"))
    shown = capsys.readouterr().out
    assert "topk SAE of block 5 (SAE and block fixed beforehand" in shown.splitlines()[0]
    assert "0.900" not in shown
    demo._print_nodes(connections, fetch_layers(connections, study=1))  # of a ReLU SAE alone
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_picture_of_several_settings(admin, swept, tmp_path):
    path = tmp_path / "figures" / "layers.png"
    for arguments in (["--study", 2], ["--study", "all"], [], ["--json"]):
        result = admin(swept, "results", "layers", "--plot", path, *arguments)
        assert result.exit_code == 0, result.output
        told = result.stderr if "--json" in arguments else result.stdout
        assert told.splitlines()[-1] == f"Figure: {path}"
        with Image.open(path) as picture:
            assert picture.format == "PNG"
        path.unlink()
