"""The demo end to end, and its scores checked with other people's tools."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from PIL import Image
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from hsae.demo import backbone_folder, clip_folder, images_folder
from hsae.vocabulary.bases import BASES
from tests.docs.cookbook import cookbook
from tests.waiting import wait_for


def test_what_ships_is_small():
    folders = (images_folder(), backbone_folder(), clip_folder())
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 15_000_000


@pytest.fixture(scope="module")
def layers() -> range:
    """The bundled backbone's blocks."""
    return range(json.loads((backbone_folder() / "config.json").read_text())["num_hidden_layers"])


def test_the_demo_says_everything(demo, layers):
    rows = json.loads(demo.admin("results", "layers", "--json").stdout)
    assert [(row["sae_kind"], row["layer"]) for row in rows] == [
        (kind, layer) for kind in ("relu", "topk") for layer in layers
    ]
    for row in rows:
        for score in ("coherence_excess", "best_f1_adjusted_inner", "share_nodes_f1_raw", "best_f1_inner_raw"):
            for name in (
                score,
                *(f"{score}_{control}" for control in BASES if control not in ("sae", "class_mean")),
            ):
                assert row[name] is not None, name
        for score in ("coherence_excess", "coherence_excess_exemplar", "f1_adjusted_inner"):
            assert row[f"{score}_low"] < row[score] < row[f"{score}_high"]
        assert row["best_baseline"] is not None
        assert row["fvu"] is not None
        assert row["probe_accuracy"] is not None
    for word in (
        "coherence",
        "neither they nor the backbone have seen",
        "relu SAE x8, cls of",
        "topk SAE x8, cls of",
        "animal.n.01",
        "bird.n.01",
        "vehicle.n.01",
        "topk SAE of block 5 (SAE and block fixed beforehand",
        "relu SAE: coherence excess",
        "topk SAE: coherence excess",
        "rises with depth?",
        "db query",
        str(demo.home),
    ):
        assert word in demo.output
    with Image.open(demo.pictures / "layers.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 800
    report = demo.pictures / "report.html"
    lines = demo.output.splitlines()
    said = lines.index(f"Report: {report} (open it in a browser)")
    assert lines[said - 4].startswith("The stack still runs"), (
        "what was edited and the report come last, but for progress"
    )
    page = report.read_text()
    assert 5_000_000 < len(page) < 20_000_000
    assert "dinov2-emoji on emoji" in page
    assert page.count('<details class="card"') == min(72, 12 * 2 * len(layers)), "12 each, 72 at most"
    assert demo.admin("--version").stdout.startswith("hsae-admin, version ")


def test_the_queries_that_the_demo_suggests_run(demo):
    queries = re.findall(r'db query "([^"]+)"', demo.output)
    assert queries
    for query in queries:
        assert demo.query(query)


def test_scores_beat_their_controls_where_it_counts(demo):
    """Trained latents answer to more nodes than shuffled labels allow, in every layer of both kinds."""
    for row in json.loads(demo.admin("results", "layers", "--json").stdout):
        assert row["share_nodes_f1_raw"] > row["share_nodes_f1_raw_shuffled_labels"]
    last = json.loads(demo.admin("results", "layers", "--json").stdout)[-1]
    assert last["f1_adjusted_inner"] > last["f1_adjusted_inner_tree"]
    assert last["best_f1_inner_raw"] > last["best_f1_inner_raw_shuffled_taxonomy"]


def test_running_it_again_reuses_every_artifact(demo):
    before = json.loads(demo.admin("jobs", "list", "--json").stdout)
    again = demo.admin("demo", "--output", demo.pictures)
    assert "0 jobs queued" in again.stdout
    assert json.loads(demo.admin("jobs", "list", "--json").stdout) == before


@pytest.fixture(scope="module")
def exported(demo, tmp_path_factory) -> Path:
    """The latest analysis as `hsae-admin results export` writes it."""
    folder = tmp_path_factory.mktemp("export") / "latest"
    demo.admin("results", "export", "--latest", "-o", folder)
    return folder


def test_the_page_of_held_out_scores_does_not_call_them_in_sample(exported):
    heading, _, first, *_ = (exported / "README.md").read_text().splitlines()
    assert heading.endswith(" on emoji")
    assert first.startswith("Written by hsae.")


def test_exported_scores_equal_scikit_learns(exported):
    folder = exported
    z = sp.load_npz(folder / "activations.npz")
    images = pq.read_table(folder / "images.parquet")
    closure = pq.read_table(folder / "closure.parquet")
    scores = pq.read_table(folder / "node_score.parquet")
    assert z.dtype == np.float32
    assert z.shape[0] == images.num_rows
    nodes = np.array(sorted(set(closure["ancestor"].to_pylist())))
    assert scores.num_rows == z.shape[1] * len(nodes)
    classes_under: dict[str, set[str]] = {}
    for descendant, ancestor in zip(closure["descendant"].to_pylist(), closure["ancestor"].to_pylist(), strict=True):
        classes_under.setdefault(ancestor, set()).add(descendant)
    labels = np.array(images["synset"].to_pylist())
    dense = z.toarray()
    rng = np.random.default_rng(20250515)
    alive = np.flatnonzero((dense > 0).any(axis=0))
    checked = 0
    while checked < 200:
        latent, node = int(rng.choice(alive)), str(rng.choice(nodes))
        row = scores.filter((pc.field("latent") == latent) & (pc.field("synset") == node)).to_pylist()
        assert len(row) == 1
        truth, strength = np.isin(labels, list(classes_under[node])), dense[:, latent]
        assert row[0]["n_images"] == truth.sum()
        assert row[0]["n_fire"] == (strength > 0).sum()
        expected = {
            "precision": precision_score(truth, strength > 0, zero_division=0),
            "recall": recall_score(truth, strength > 0),
            "f1": f1_score(truth, strength > 0, zero_division=0),
        }
        if truth.all():
            assert row[0]["auroc"] is None
        else:
            expected["auroc"] = roc_auc_score(truth, strength)
        for name, value in expected.items():
            assert row[0][name] == pytest.approx(value, abs=1e-9), (latent, node, name)
        checked += 1
    dead = np.setdiff1d(np.arange(z.shape[1]), alive)
    for latent in dead[:1].tolist():
        row = scores.filter(pc.field("latent") == latent)
        assert row["auroc"].null_count == row.num_rows


def test_the_scores_in_the_database_are_those_of_the_scored_images(demo, exported):
    """The export has every pair over all images; the database has the shortlist over those that are scored."""
    images = pq.read_table(exported / "images.parquet").to_pylist()
    scored = [row for row, image in enumerate(images) if image["part"] == "score"]
    z = sp.load_npz(exported / "activations.npz").toarray()[scored]
    closure = pq.read_table(exported / "closure.parquet").to_pylist()
    under = {(row["descendant"], row["ancestor"]) for row in closure}
    query = """SELECT n.latent, y.wnid, n.n_images, n.n_fire, n.n_both, n.f1, n.auroc
               FROM node_score n JOIN synset y ON y.id = n.synset_id
               WHERE n.basis = 'sae' AND n.analysis_id = (SELECT max(id) FROM analysis)
               ORDER BY n.latent, y.wnid LIMIT 500"""
    for row in demo.query(query):
        truth = np.array([(images[image]["synset"], row["wnid"]) in under for image in scored])
        strength = z[:, row["latent"]]
        fires = strength > 0
        counts = {"n_images": truth.sum(), "n_fire": fires.sum(), "n_both": (truth & fires).sum()}
        assert {name: row[name] for name in counts} == counts
        if truth.any() and fires.any():
            assert row["f1"] == pytest.approx(f1_score(truth, fires), abs=1e-12)
        if truth.any() and not truth.all() and np.ptp(strength) > 0:
            assert row["auroc"] == pytest.approx(roc_auc_score(truth, strength), abs=1e-9)


def test_every_query_of_the_cookbook_runs(demo):
    queries = cookbook()
    assert len(queries) >= 20
    # Of several seeds; of studies that name latents by text, or edit them.
    unfilled = ("latent_stability", "name_set", "intervention")
    without_rows = [
        query for query in queries if not demo.query(query) and not any(table in query for table in unfilled)
    ]
    # Whether a latent meets at a dog and fires on cats, or one SAE absorbs a parent, is up to the training.
    assert len(without_rows) <= 4, without_rows


def test_the_tree_of_animals(demo):
    tree = json.loads(demo.admin("results", "tree", "animal.n.01", "--json").stdout)
    nodes = {row["synset"]: row for row in tree["nodes"]}
    assert {"animal.n.01", "dog.n.01", "domestic_animal.n.01"} <= set(nodes)
    assert nodes["dog.n.01"]["hypernyms"] == ["canine.n.02", "domestic_animal.n.01"]
    # Of the scored style there is no drawing of every animal.
    assert sum(row["f1"] is not None for row in nodes.values()) > len(nodes) / 3
    assert "dog.n.01" in demo.admin("results", "tree", "animal.n.01").stdout


def test_doctor_finds_the_running_stack_healthy(demo):
    findings: list[dict] = []

    def healthy() -> bool:  # a worker that answers too slowly is none
        findings[:] = json.loads(demo.admin("doctor", "--json", check=False).stdout)
        return all(finding["ok"] for finding in findings)

    wait_for(healthy, message=lambda: str(findings))


@pytest.fixture(scope="module")
def compared(demo):
    """The comparison of the demo's study, as `results study` has it."""
    return json.loads(demo.admin("results", "study", "--json").stdout)


def test_coherence_rises_with_depth_where_the_demo_says_so(demo, compared):
    """For TopK; for ReLU its interval contains 0, as docs/demo.md says."""
    trends = {row["sae"].split()[0]: row for row in compared["trends"] if row["metric"] == "coherence_excess"}
    assert set(trends) == {"relu", "topk"}
    assert trends["topk"]["n_layers"] == 6
    assert trends["topk"]["ci_low"] > 0
    lines = {line.split()[0]: line for line in demo.output.splitlines() if "bits per block" in line}
    for kind, row in trends.items():
        assert f"coherence excess {row['slope']:+.3f} bits per block, 95% interval" in lines[kind]
        assert lines[kind].endswith("yes" if row["ci_low"] > 0 else "not shown")


def test_coherence_stands_beside_exemplars_with_intervals(compared, layers):
    scores = {
        (row["layer"], row["sae"].split()[0], row["basis"]): row
        for row in compared["scores"]
        if row["metric"] == "coherence_excess"
    }
    for layer in layers:
        for kind in ("relu", "topk"):
            for basis in ("sae", "exemplar"):
                row = scores[layer, kind, basis]
                assert row["ci_low"] < row["value"] < row["ci_high"]
            assert scores[layer, kind, "sae"]["ci_low"] > 0  # above chance in every block


def test_layers_are_compared_at_equal_sparsity(demo):
    rows = json.loads(demo.admin("results", "layers", "--json").stdout)
    assert all(row["holdout_l0"] == pytest.approx(16, rel=0.1) for row in rows)
    assert "Warning" not in demo.output
