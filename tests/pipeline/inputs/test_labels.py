"""Images of several labels, from the CSV to the export; and that one label each leaves everything as it was."""

import csv
import hashlib
import io
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from click.testing import CliRunner
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score
from sqlalchemy import text
from tests.pipeline.in_process import TINY_SAE, run_jobs
from tests.pipeline.inputs.small_tree import TREE
from tests.small import quick_scoring, register, small_request

from hsae.catalog import transaction
from hsae.cli.main import cli
from hsae.demo import images_folder
from hsae.pipeline.exports.export import export_analysis
from hsae.pipeline.inputs.labels import listed_labels
from hsae.pipeline.planning.submit import submit
from hsae.store.keys import listing_key
from hsae.taxonomy import induce, load_taxonomy

UNDER = {
    "shark": {"shark", "fish", "animal", "living thing"},
    "bird": {"bird", "animal", "living thing"},
    "frog": {"frog", "animal", "living thing"},
    "microbe": {"microbe", "living thing"},
}
CLASSES = ("bird", "frog", "microbe", "shark")
NODES = {"animal", "bird", "fish", "frog", "living thing", "microbe", "shark"}
N_IMAGES = 24


@pytest.fixture(scope="module")
def ready(make_service, tmp_path_factory):
    """A service, a tree, some images and their labels: one each and, of some, a second or a third one."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "tree.csv").write_text(TREE)
    paths = sorted(str(path) for path in images_folder().glob("*/*.webp"))[:N_IMAGES]
    first = [CLASSES[i % 4] for i in range(N_IMAGES)]
    labels = {path: {label} for path, label in zip(paths, first, strict=True)}
    for i, path in enumerate(paths):
        if i % 3 == 0:
            labels[path].add(CLASSES[(i // 3 + 1) % 4])
        if i % 8 == 0:
            labels[path] |= {"bird", "shark"}
    assert {len(of_image) for of_image in labels.values()} == {1, 2, 3}
    return SimpleNamespace(service=make_service(), folder=folder, paths=paths, first=first, labels=labels)


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return path


def query(service, statement, **values):
    with transaction(service.sessions) as session:
        return [tuple(row) for row in session.execute(text(statement), values)]


def nodes_of(labels):
    return set().union(*(UNDER[label] for label in labels))


def test_several_labels_end_to_end(ready, monkeypatch):
    service, labels = ready.service, ready.labels
    rows = [(path, label) for path, of_image in labels.items() for label in sorted(of_image)]
    listed = write_csv(ready.folder / "several.csv", sorted(rows, key=lambda row: row[::-1]))
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    arguments = ["dataset", "add", "several", str(listed), "--taxonomy", str(ready.folder / "tree.csv")]
    added = CliRunner().invoke(cli, arguments)
    assert added.exit_code == 0, added.output
    assert f"{N_IMAGES} images with {len(rows)} labels of 4 classes, 7 taxonomy nodes" in added.output

    assert query(service, "SELECT n_images FROM dataset") == [(N_IMAGES,)]
    of_class = query(service, "SELECT label, n_images FROM dataset_class ORDER BY position")
    assert of_class == [(name, sum(name in of_image for of_image in labels.values())) for name in CLASSES]
    of_node = query(
        service, "SELECT y.name, n.n_images FROM dataset_node n JOIN synset y ON y.id = n.synset_id ORDER BY 1"
    )
    assert of_node == [
        (node, sum(node in nodes_of(of_image) for of_image in labels.values())) for node in sorted(NODES)
    ]

    request = small_request(
        "several",
        layers=(3,),
        saes=(TINY_SAE,),
        scoring=quick_scoring(n_shuffles=1, controls=("neuron",), embeddings="own"),
    )
    assert set(run_jobs(service, submit(request, service.settings, service.sessions))) == {"succeeded"}
    assert query(service, "SELECT 1 FROM level_score") == []
    columns = "probe_accuracy, knn_accuracy, path_correlation, path_correlation_shuffled"
    assert set(query(service, f"SELECT {columns} FROM layer_progress")) == {(None,) * 4}
    (undefined,) = query(service, f"SELECT {columns}, nn_accuracy, n_neighbours, undefined FROM class_probe")
    assert undefined[:-1] == (None,) * 6
    assert "several classes" in undefined[-1]
    bases = {"sae", "neuron", "shuffled_labels", "shuffled_taxonomy"}
    assert {basis for (basis,) in query(service, "SELECT basis FROM node_score")} == bases
    for table in (["layers"], ["levels"], ["tree", "animal"]):
        shown = CliRunner().invoke(cli, ["results", *table])
        assert shown.exit_code == 0, shown.output

    exported = ready.folder / "export"
    export_analysis(None, exported, service.sessions, service.store)
    images = pq.read_table(exported / "images.parquet").to_pydict()
    assert images == {
        "image": list(range(N_IMAGES)),
        "path": ready.paths,
        "synsets": [sorted(labels[path]) for path in ready.paths],
        "synset_names": [sorted(labels[path]) for path in ready.paths],
    }
    z = sp.load_npz(exported / "activations.npz").toarray().astype(np.float64)
    fires = z > 0
    pairs = pq.read_table(exported / "node_score.parquet").to_pylist()
    by_pair = {(pair["latent"], pair["synset"]): pair for pair in pairs}
    assert len(by_pair) == len(pairs) == z.shape[1] * len(NODES)
    for node in NODES:
        is_under = np.array([node in nodes_of(labels[path]) for path in images["path"]])
        truth = np.repeat(is_under[:, np.newaxis], z.shape[1], axis=1)  # scikit-learn then scores all latents at once
        of_node = [by_pair[latent, node] for latent in range(z.shape[1])]
        assert [(pair["n_images"], pair["n_fire"]) for pair in of_node] == [
            (is_under.sum(), n) for n in fires.sum(axis=0)
        ]
        for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            expected = score(truth, fires, average=None, zero_division=0)
            found = np.array([np.nan if pair[name] is None else pair[name] for pair in of_node])
            alive = fires.any(axis=0)
            np.testing.assert_allclose(found[alive], expected[alive], atol=1e-12)
            assert np.isnan(found[~alive]).all()
        auroc = np.array([np.nan if pair["auroc"] is None else pair["auroc"] for pair in of_node])
        has_test = np.full(z.shape[1], not is_under.all()) & (np.ptp(z, axis=0) > 0)
        assert np.isnan(auroc[~has_test]).all()
        if has_test.any():
            expected = roc_auc_score(truth[:, has_test], z[:, has_test], average=None)
            np.testing.assert_allclose(auroc[has_test], expected, atol=1e-9)
    assert sum(pair["auroc"] is not None for pair in pairs) > 100

    names = ("n_images", "n_fire", "precision", "recall", "f1", "f1_adjusted", "p", "auroc", "z")
    stored = query(
        service,
        f"SELECT n.latent, y.wnid, {', '.join(f'n.{name}' for name in names)} FROM node_score n"
        " JOIN synset y ON y.id = n.synset_id WHERE n.basis = 'sae'",
    )
    assert len(stored) > 100
    for latent, node, *values in stored:
        assert values == [by_pair[latent, node][name] for name in names]


def test_labels_are_positions_of_classes(ready):
    tree = induce(load_taxonomy(ready.folder / "tree.csv"), CLASSES)
    listing = pa.table({"class_ids": [["frog"], ["bird", "shark"], ["microbe"]]})
    labels = listed_labels(listing, tree)
    np.testing.assert_array_equal(labels.toarray(), [[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]])
    # A matrix also where all that is left of the images has one label: it is the data set that has several.
    np.testing.assert_array_equal(listed_labels(listing.take([2, 0]), tree).toarray(), [[0, 0, 1, 0], [0, 1, 0, 0]])
    single = listed_labels(pa.table({"class_id": ["frog", "microbe"]}), tree)
    assert (single.dtype, single.tolist()) == (np.dtype(np.int64), [1, 2])


def test_one_label_each_has_the_identity_and_the_listing_that_it_always_had(ready):
    """All that an analysis' key and results hang on, to the byte."""
    rows = list(zip(ready.paths, ready.first, strict=True))
    listed = write_csv(ready.folder / "single.csv", [*rows, *rows[:5]])
    registered, _ = register(ready.service, "single", listed, ready.folder / "tree.csv")
    content = ready.service.store.get(listing_key(registered.fingerprint, registered.listing_sha256))
    listing = pq.read_table(io.BytesIO(content))
    types = {
        "image": pa.int32(), "path": pa.string(), "class_id": pa.string(), "sha256": pa.string(), "n_bytes": pa.int64(),
    }  # fmt: skip
    assert listing.schema == pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])
    assert listing.select(["path", "class_id"]).to_pydict() == {"path": ready.paths, "class_id": ready.first}
    by_hand = io.BytesIO()
    pq.write_table(pa.table(listing.to_pydict(), schema=listing.schema), by_hand, compression="zstd")
    assert content == by_hand.getvalue()
    lines = zip(ready.paths, ready.first, listing["sha256"].to_pylist(), strict=True)
    triples = "".join(f"{path}\0{label}\0{sha256}\n" for path, label, sha256 in lines)
    assert registered.fingerprint == hashlib.sha256(triples.encode()).hexdigest()
    of_node = query(
        ready.service,
        "SELECT y.name, n.n_images FROM dataset_node n JOIN synset y ON y.id = n.synset_id"
        " WHERE n.dataset_id = :id ORDER BY 1",
        id=registered.id,
    )
    assert of_node == [(node, sum(node in UNDER[label] for label in ready.first)) for node in sorted(NODES)]
