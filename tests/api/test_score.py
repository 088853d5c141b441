"""hsae.score: the numbers of the pipeline, on arrays; and one line for input that cannot be scored."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sqlalchemy import text
from tests.small import quick_scoring

import hsae
from hsae.catalog import Dataset, transaction
from hsae.hierarchy.scored_activations import ImageParts
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import read_listing, read_taxonomy

TREE = [("cat", "pet"), ("dog", "pet"), ("cow", "farm"), ("hen", "farm"), ("pet", "animal"), ("farm", "animal")]
CLASSES = ("cat", "dog", "cow", "hen")


@pytest.fixture(scope="module")
def planted():
    """Latent 0 fires on cats, 1 on pets, 2 on farm animals, 3 never; ten images of each class."""
    labels = [name for name in CLASSES for _ in range(10)]
    z = np.zeros((40, 4), np.float32)
    z[:10, 0], z[:20, 1], z[20:, 2] = 1.0, 2.0, 3.0
    return z, labels


@pytest.fixture
def of_pipeline(analysis, study):
    """What the pipeline scored: latents, activations, wnids, induced taxonomy."""
    stored = analysis.latent_activations()
    with transaction(analysis.connections.sessions) as session:
        dataset = dataset_ref(session.get_one(Dataset, analysis.about["dataset_id"]))
    listing = read_listing(analysis.connections.store, dataset).take(stored.images)
    taxonomy = read_taxonomy(analysis.connections.store, dataset)
    return stored.z, study.activations(layer=3).numpy(), listing["class_id"].to_pylist(), taxonomy


def rows_of(table):
    """The rows of a table of pandas, with None for what is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def assert_same(found, expected, names):
    """Rows of `hsae.score` are those of the catalog."""
    for name in names:
        value = expected[name]
        same = pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
        assert found[name] == same, (name, found, expected)


def test_equal_to_what_the_pipeline_stored(analysis, of_pipeline):
    z, x, labels, taxonomy = of_pipeline
    scores = hsae.score(
        z, labels, taxonomy=taxonomy, split=hsae.SplitConfig(), activations=x, sae=analysis.sae(),
        scoring=quick_scoring(embeddings="own"),
    )  # fmt: skip
    latents = {row["latent"]: row for row in scores.latent_rows()}
    stored = rows_of(analysis.latents())
    assert len(stored) > 50
    columns = (
        "synset", "f1", "f1_adjusted", "q", "precision", "recall", "auroc", "coherence_excess", "coherence_p", "purity",
        "lch", "lch_excess", "n_fire", "class_entropy", "monosemanticity", "f1_baseline", "baseline", "f1_neuron",
        "f1_shuffled_taxonomy",
    )  # fmt: skip
    for row in stored:
        if row["f1_baseline"] is None:  # the view names a baseline even where its F1 is undefined
            row["baseline"] = None
        assert_same(latents[row["latent"]], row, columns)
    nodes = {row["synset"]: row for row in scores.node_rows()}
    for row in analysis.nodes(min_f1=0.0).astype(object).where(lambda table: table.notna(), None).to_dict("records"):
        assert_same(
            nodes[row["synset"]], row, ("latent", "f1", "f1_adjusted", "q_node", "p", "n_images", "f1_baseline")
        )
    with transaction(analysis.connections.sessions) as session:
        intervals = session.execute(
            text("SELECT metric, value, low, high FROM layer_interval WHERE analysis_id = :a AND basis = 'sae'"),
            {"a": analysis.id},
        ).all()
        trees = session.execute(
            text("SELECT metric, mean, q975, p FROM layer_tree_shuffle WHERE analysis_id = :a"), {"a": analysis.id}
        ).all()
    headlines = {row["metric"]: row for row in scores.headline_rows()}
    assert len(intervals) > 4
    for metric, value, low, high in intervals:
        assert_same(headlines[metric], {"value": value, "low": low, "high": high}, ("value", "low", "high"))
    for metric, mean, q975, p in trees:
        if metric in headlines:
            expected = {"shuffled_tree": mean, "shuffled_tree_q975": q975, "p": p}
            assert_same(headlines[metric], expected, tuple(expected))


def test_the_null_in_an_explanation_is_that_of_score(analysis, of_pipeline):
    z, _, labels, taxonomy = of_pipeline
    scores = hsae.score(
        z, labels, taxonomy=taxonomy, split="0.5/0.25/0.25", scoring=quick_scoring(embeddings="own", controls=())
    )
    latents = {row["latent"]: row for row in scores.latent_rows()}
    shown = analysis.explain(z[[0]], k=8).rows
    assert shown
    for row in shown:
        if row["synset"] is not None:
            assert_same(row, latents[row["latent"]], ("synset", "f1_adjusted", "f1_adjusted_shuffled", "q"))


def test_planted_latents(planted):
    scores = hsae.score(*planted, taxonomy=TREE)
    latents = {row["latent"]: row for row in scores.latent_rows()}
    assert {number: row["synset"] for number, row in latents.items()} == {0: "cat", 1: "pet", 2: "farm"}
    assert all(row["f1"] == 1.0 and row["f1_adjusted"] == pytest.approx(1.0) for row in latents.values())
    nodes = {row["synset"]: row for row in scores.node_rows()}
    assert (nodes["pet"]["latent"], nodes["pet"]["f1"], nodes["pet"]["q_node"] < 0.01) == (1, 1.0, True)
    table = scores.latents()
    assert list(table.columns)[:4] == ["latent", "synset", "f1_adjusted", "f1_adjusted_shuffled"]
    assert list(scores.nodes().columns)[:2] == ["synset", "height"]
    assert list(scores.to_pandas().columns)[:4] == ["metric", "value", "low", "high"]
    assert "4 latents on 40 images against 7 nodes" in repr(scores)
    assert repr(scores).endswith(", in-sample>")
    assert "in-sample" not in repr(hsae.score(*planted, taxonomy=TREE, split="0.5/0.25/0.25"))
    assert "<td>coherence_excess</td>" in scores._repr_html_()


def test_every_form_of_arrays_labels_and_taxonomy_gives_the_same(planted, tmp_path):
    z, labels = planted
    expected = hsae.score(z, labels, taxonomy=TREE).latent_rows()
    (tmp_path / "edges.csv").write_text("child,parent\n" + "".join(f"{child},{parent}\n" for child, parent in TREE))
    induced = hsae.score(z, labels, taxonomy=TREE).taxonomy
    tensor = torch.from_numpy(z)
    for latents in (tensor, tensor.bfloat16(), tensor.to_sparse(), sp.csr_array(z), sp.coo_matrix(z), z.tolist()):
        assert hsae.score(latents, labels, taxonomy=TREE).latent_rows() == expected
    for names in (np.array(labels), [[name] for name in labels]):
        assert hsae.score(z, names, taxonomy=TREE).latent_rows() == expected
    assert hsae.score(z, labels, taxonomy=tmp_path / "edges.csv").latent_rows() == expected
    positions = np.repeat([0, 2, 1, 3], 10)  # classes are sorted by id
    ids = [induced.synsets[node].id for node in induced.classes]
    assert [ids[position] for position in positions] == labels
    assert hsae.score(z, positions, taxonomy=induced).latent_rows() == expected


def test_wordnet_is_the_default(planted):
    z, _ = planted
    labels = np.repeat(["cat.n.01", "n02084071", "cow.n.01", "hen.n.01"], 10)
    nodes = {row["synset"] for row in hsae.score(z, labels).node_rows()}
    assert {"carnivore.n.01", "dog.n.01", "animal.n.01"} <= nodes


def test_several_labels_of_an_image(planted):
    z, labels = planted
    several = [[name] if i % 10 else [name, "hen"] for i, name in enumerate(labels)]
    nodes = {row["synset"]: row for row in hsae.score(z, several, taxonomy=TREE).node_rows()}
    assert nodes["hen"]["n_images"] == 13


def test_a_split_keeps_choice_and_score_apart(planted):
    z, labels = planted
    scores = hsae.score(z, labels, taxonomy=TREE, split="0.5/0.25/0.25")
    parts = scores.parts
    assert sorted([*parts.train, *parts.select, *parts.score]) == list(range(40))
    assert scores.sae.layer.n_images == len(parts.score)
    own = ImageParts(*(np.arange(start, 40, 3) for start in range(3)))
    assert hsae.score(z, labels, taxonomy=TREE, split=own).sae.layer.n_images == 13
    assert hsae.score(z, labels, taxonomy=TREE, split="none").parts is None


def test_controls_are_those_that_can_be_made(planted):
    z, labels = planted
    alone = hsae.score(z, labels, taxonomy=TREE)
    assert {result.basis for result in alone.results} == {"sae", "shuffled_labels", "shuffled_taxonomy"}
    assert all(np.isnan(alone.sae.latents.monosemanticity))
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    beside = hsae.score(z, labels, taxonomy=TREE, activations=x)
    bases = {result.basis for result in beside.results}
    assert {"neuron", "random", "exemplar", "pca", "kmeans"} <= bases
    assert "untrained" not in bases
    assert not np.isnan(beside.sae.latents.monosemanticity[0])


NAN, NEGATIVE = np.ones((40, 4), np.float32), np.ones((40, 4), np.float32)
NAN[3, 2], NEGATIVE[5, 1] = np.nan, -1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["cat"] * 39}, "there are 39 labels for 40 images: give one label per image"),
        ({"labels": ["cat", "ct", "dgo"] * 13 + ["cow"]}, "2 of 4 labels do not name one synset: 'ct', 'dgo'"),
        ({"labels": ["cat", "dog"] * 20}, "the labels are of 2 classes: scores against a taxonomy need 3 or more"),
        ({"labels": [1, 2] * 20}, "label 1 of image 0 is a number: give names"),
        ({"labels": [[]] * 40}, "the labels of image 0 are []: give a name, or several names"),
        ({"z": NAN}, "z is NaN or infinite for image 3, latent 2"),
        ({"z": sp.csr_array(NEGATIVE)}, "z is negative for image 5, latent 1"),
        ({"z": np.ones(40)}, "z is float64[40]: give float[n_images, n_latents]"),
        ({"activations": np.ones((39, 6), np.float32)}, "there are activations of 39 images and latents of 40"),
        ({"activations": np.full((40, 6), np.nan, np.float32)}, "row 0 of the activations holds NaN or infinity"),
        ({"activations": np.ones((40, 6), int)}, "the activations are torch.int64: give floating-point numbers"),
        ({"scoring": hsae.ScoringConfig()}, "are made of activations and sae: give them, too"),
        ({"taxonomy": "/absent.csv"}, "/absent.csv"),
        ({"taxonomy": 3}, "the taxonomy is a int: give wordnet, the path of a tree, or pairs (child, parent)"),
        ({"split": "a/b"}, "'a/b' is no split"),
        ({"split": 0.5}, "the split is a float: give shares such as '0.5/0.25/0.25'"),
        ({"split": (0.5, 0.25, 0.25)}, "the split is a tuple: give shares"),
        ({"scoring": {"n_shuffles": 1}}, "the scoring is a dict: give an hsae.ScoringConfig"),
        ({"sae": 5}, "the SAE is a int: give what hsae.train returned"),
        ({"labels": None}, "the labels are a NoneType: give a list with a name for each image"),
        ({"labels": Path("labels.csv")}, "Path: give a list with a name for each image"),
        ({"z": [[1.0], [1.0, 2.0]]}, "z is no array of numbers: give float[n_images, n_latents]"),
        ({"z": sp.csr_array((40, 0))}, "z is float64[40, 0]: give float[n_images, n_latents]"),
        ({"z": torch.ones(40, 4, dtype=torch.complex64)}, "z is complex64[40, 4]"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(planted, changes, words):
    z, labels = planted
    given = {"z": z, "labels": labels, "taxonomy": TREE, **changes}
    with pytest.raises(hsae.UserError) as refused:
        hsae.score(given.pop("z"), given.pop("labels"), **given)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_sae_of_another_size(planted):
    z, labels = planted
    trained = hsae.train(np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32), kind="topk", k=2, n_steps=5)
    with pytest.raises(hsae.UserError, match="z has 4 latents and the SAE 48"):
        hsae.score(z, labels, taxonomy=TREE, sae=trained)
    x = np.ones((40, 7), np.float32)
    with pytest.raises(hsae.UserError, match="the activations have 7 dimensions and the SAE 6"):
        hsae.score(np.ones((40, 48), np.float32), labels, taxonomy=TREE, sae=trained, activations=x)


def test_results_are_typed_arrays(planted):
    scores = hsae.score(*planted, taxonomy=TREE)
    assert dataclasses.is_dataclass(scores.sae)
    assert scores.sae.nodes.f1.dtype == np.float64
