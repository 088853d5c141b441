"""hsae-admin results: filters, the tree of nodes and the comparison, over known scores."""

import json

import pytest
from tests.cli.refusals import assert_one_line
from tests.planted_scores import ID, plant

from hsae.catalog import Analysis, Comparison, LatentStability, transaction
from hsae.cli.results import filters as result_filters
from hsae.vocabulary.bases import BASES, CONTROL_BASES


@pytest.fixture(scope="module")
def planted(make_service):
    """A service with the planted scores, never changed by these tests."""
    service = make_service()
    plant(service)
    return service


def test_nodes(ask):
    rows = ask("nodes")
    assert [row["f1"] for row in rows] == sorted((row["f1"] for row in rows), reverse=True)
    assert {(row["analysis_id"], row["synset"]): row["latent"] - 100 for row in rows} == {
        (row["analysis_id"], row["synset"]): ID[row["synset"]] for row in rows
    }
    assert len(rows) == 11  # one of each analysis and node with a score
    assert {row["synset"] for row in ask("nodes", "--under", "pet.n.01")} == {"pet.n.01", "dog.n.01", "doll.n.01"}
    assert [row["layer"] for row in ask("nodes", "--node", f"n{ID['dog.n.01']:08d}")] == [2, 5]
    assert {row["synset"] for row in ask("nodes", "--layer", 2, "--min-f1", 0.8)} == {"dog.n.01", "cow.n.01"}
    assert {row["f1"] for row in ask("nodes", "--study", 1, "--q", 0.01)} == {0.6, 0.7, 0.8, 0.9}
    assert [(row["seed"], row["f1"]) for row in ask("nodes", "--basis", "shuffled_taxonomy", "--node", "dog.n.01")] == [
        (1, 0.4),
        (0, 0.2),
    ]
    assert ask("nodes", "--node", "doll.n.01", "--layer", 2) == []


def controls(rows, synset) -> dict[int, tuple]:
    """By analysis, what the best raw neuron and the mean over shuffled taxonomies reach beside the SAE."""
    return {r["analysis_id"]: (r["f1_neuron"], r["f1_shuffled_taxonomy"]) for r in rows if r["synset"] == synset}


def test_controls_stand_beside_the_saes_scores(ask, admin, planted):
    rows = ask("nodes")
    assert controls(rows, "dog.n.01") == {1: (0.3, pytest.approx(0.3)), 2: (None, 0.0)}
    assert controls(rows, "cow.n.01") == {1: (0.0, 0.0), 2: (None, 0.3)}
    assert controls(ask("latents"), "dog.n.01") == controls(rows, "dog.n.01")
    baselines = {row["synset"]: (row["baseline"], row["f1_baseline"]) for row in ask("nodes", "--study", 1)}
    assert baselines["dog.n.01"] == ("exemplar", 0.6)
    assert baselines["animal.n.01"] == ("random", pytest.approx(0.2))  # the mean of both draws
    assert baselines["cow.n.01"] == (None, None)  # no baseline fires there
    assert "f1_neuron" not in ask("nodes", "--basis", "neuron")[0]
    for command in ("nodes", "latents"):
        header = admin(planted, "results", command, "--study", 1).stdout.splitlines()[1].replace("↑", "").split()
        assert header[header.index("F1") :][:3] == ["F1", "baseline", "neurons"]
    assert "~tree" not in admin(planted, "results", "nodes", "--basis", "neuron").stdout


def test_latents(ask):
    assert [row["f1"] for row in ask("latents")] == [0.9, 0.7]
    assert [row["layer"] for row in ask("latents", "--node", "dog.n.01", "--layer", 5)] == [5]
    assert ask("latents", "--node", "cow.n.01") == []
    assert len(ask("latents", "--under", "pet.n.01", "--q", 0.01)) == 2
    assert [row["layer"] for row in ask("latents", "--study", 2)] == [5]
    assert ask("latents", "--q", 0.0001) == []


def test_every_basis_of_the_catalog_can_be_asked_for():
    assert result_filters.basis_option(lambda: None).__click_params__[0].type.choices == BASES  # type: ignore[attr-defined]
    assert result_filters.column_basis_option(lambda: None).__click_params__[0].type.choices == ("sae", *CONTROL_BASES)  # type: ignore[attr-defined]
    assert set(BASES) == {"sae", *CONTROL_BASES, "shuffled_labels", "shuffled_taxonomy"}


def test_latents_by_coherence(ask):
    assert [row["layer"] for row in ask("latents", "--min-coherence", 0.1, "--study", "all")] == [5, 2]
    assert [row["coherence_excess"] for row in ask("latents", "--min-coherence", 0.15)] == [0.2]
    assert ask("latents", "--min-coherence", 0.3) == []


def test_latents_by_seed_stability(admin, service):
    """The latent of analysis 1 was found again by other seeds; that of analysis 2 has no other seed, and never fits."""
    plant(service)
    with transaction(service.sessions) as session:
        comparison = Comparison(key="seeds", job_id=session.get_one(Analysis, 1).job_id, dataset_id=1, config={})
        session.add(comparison)
        session.flush()
        session.add(
            LatentStability(comparison_id=comparison.id, analysis_id=1, latent=100 + ID["dog.n.01"], stability=0.8,
                            chance=0.3, is_one_to_one=True)
        )  # fmt: skip

    def found(least):
        asked = admin(service, "results", "latents", "--min-stability", least, "--study", "all", "--json")
        assert asked.exit_code == 0, asked.output
        return [
            (row["analysis_id"], row["seed_stability"], row["stability_chance"]) for row in json.loads(asked.stdout)
        ]

    assert found("-1") == found("0.8") == [(1, 0.8, 0.3)]
    assert found("0.81") == []
    refused = admin(service, "results", "latents", "--min-stability", "1.1")
    assert refused.exit_code == 2
    assert "'--min-stability': 1.1 is not in the range -1<=x<=1" in refused.stderr


def test_layers(ask, admin, planted):
    assert [row["layer"] for row in ask("layers")] == [2, 5]
    assert [row["layer"] for row in ask("layers", "--study", 2)] == [5]
    assert ask("layers", "--study", 2, "--layer", 2, "--sae", "relu") == []
    for command in (["layers"], ["nodes"], ["latents"], ["edges"], ["tree", "entity.n.01"]):
        assert_one_line(
            admin(planted, "results", *command, "--sae", "topk"), "no analysis is of a topk SAE, only of relu"
        )


def test_tree(admin, planted):
    result = admin(planted, "results", "tree", "entity.n.01", "--study", "all")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [" ".join(line.split()[:3]) for line in lines[2:9]] == [
        "entity.n.01 3 40",
        "├─ animal.n.01 2",
        "│ ├─ cow.n.01",
        "│ └─ dog.n.01",
        "└─ pet.n.01 2",
        "├─ dog.n.01 (also",
        "└─ doll.n.01 1",
    ]
    assert "(also pet.n.01)" in lines[5]
    assert "(also animal.n.01)" in lines[7]
    for words in ("0.900", "0.300", str(100 + ID["dog.n.01"]), "relu"):
        assert words in lines[5]


def test_tree_in_json_holds_each_node_once_with_its_controls(ask):
    tree = ask("tree", "entity.n.01")
    nodes = {row["synset"]: row for row in tree["nodes"]}
    assert len(tree["nodes"]) == len(nodes) == 6
    assert (tree["dataset"], tree["node"]) == ("planted", "entity.n.01")
    dog = nodes["dog.n.01"]
    assert dog["hypernyms"] == ["animal.n.01", "pet.n.01"]
    assert (dog["analysis_id"], dog["layer"], dog["f1"], dog["latent"]) == (1, 2, 0.9, 100 + ID["dog.n.01"])
    assert dog["f1_neuron"] == 0.3
    assert dog["f1_shuffled_taxonomy"] == pytest.approx(0.3)  # the mean of both seeds
    assert nodes["pet.n.01"]["f1_shuffled_taxonomy"] == 0.0  # no latent of the control fires there
    assert (nodes["animal.n.01"]["analysis_id"], nodes["animal.n.01"]["f1_neuron"]) == (2, None)  # has no control


def test_the_tree_as_a_figure(admin, planted, tmp_path):
    path = tmp_path / "tree.pdf"
    result = admin(planted, "results", "tree", "entity.n.01", "--study", "all", "--plot", path)
    assert result.exit_code == 0, result.output
    assert str(path) in result.stderr
    assert path.read_bytes().startswith(b"%PDF")


def test_tree_filters(ask, admin, planted):
    def names(*arguments: object) -> list[str]:
        return [row["synset"] for row in ask("tree", *arguments)["nodes"]]

    assert names("pet.n.01") == ["dog.n.01", "doll.n.01", "pet.n.01"]
    assert names("entity.n.01", "--depth", 1) == ["animal.n.01", "entity.n.01", "pet.n.01"]
    assert names("dog.n.01", "--depth", 0) == ["dog.n.01"]
    assert names("entity.n.01", "--min-f1", 0.9) == ["animal.n.01", "dog.n.01", "entity.n.01", "pet.n.01"]
    scores = {row["synset"]: row["f1"] for row in ask("tree", "entity.n.01", "--layer", 2)["nodes"]}
    assert (scores["animal.n.01"], scores["doll.n.01"]) == (0.5, None)
    scores = {row["synset"]: row["f1"] for row in ask("tree", "entity.n.01", "--layer", 2, "--q", 0.01)["nodes"]}
    assert (scores["animal.n.01"], scores["dog.n.01"]) == (None, 0.9)
    assert {row["basis"] for row in ask("tree", "dog.n.01", "--basis", "neuron")["nodes"]} == {"neuron"}
    assert ask("tree", "dog.n.01", "--analysis", 2)["nodes"][0]["f1"] == 0.7
    assert ask("tree", "dog.n.01", "--study", 2, "--dataset", "planted")["nodes"][0]["f1"] == 0.7
    assert_one_line(admin(planted, "results", "tree", "dog.n.01", "--min-f1", 0.95, "--study", "all"), "0.95")
    assert_one_line(admin(planted, "results", "tree", "dog.n.01", "--study", 1, "--analysis", 2), "analysed data set")


def test_compare(ask, admin, planted):
    found = ask("compare", 1, 2)
    groups = {row["group"]: row for row in found["groups"]}
    assert set(groups) == {"height 1", "height 0", "all"}  # the root holds every image, no other node has 3 classes
    assert groups["height 1"]["f1_a"] == pytest.approx(0.55)
    assert groups["height 1"]["f1_b"] == pytest.approx(0.5)
    # A latent that always fires reaches F1 6/7 at animal.n.01 (30 of 40 images), and 2/3 at pet.n.01 (20 of them).
    assert (groups["height 1"]["f1_adjusted_a"], groups["height 1"]["f1_adjusted_b"]) == (0, 0)
    leaves = groups["height 0"]
    assert (leaves["n_nodes"], leaves["wins_a"], leaves["wins_b"], leaves["ties"]) == (3, 1, 0, 2)
    dog = [(f1 - 0.4) / 0.6 for f1 in (0.9, 0.7)]  # 10 of 40 images: 0.4 by firing always; doll.n.01 has 0 and 0.4
    assert leaves["difference"] == pytest.approx((dog[1] - dog[0]) / 3)
    assert leaves["f1_a_shuffled_taxonomy"] == pytest.approx(0.1)
    assert leaves["f1_b_shuffled_taxonomy"] == pytest.approx(0.1)
    assert "f1_a_neuron" not in leaves  # not scored in both
    assert {row["synset"]: row["f1_a"] for row in found["nodes"]}["doll.n.01"] == 0.0
    assert [row["difference"] for row in ask("compare", 2, 2)["groups"]] == [0.0] * 3
    studies = ask("compare", 1, 2, "--studies")
    assert studies["groups"] == found["groups"]
    assert {row["synset"] for row in ask("compare", 1, 2, "--under", "pet.n.01")["nodes"]} == {
        "pet.n.01",
        "dog.n.01",
        "doll.n.01",
    }
    printed = admin(planted, "results", "compare", 1, 2).stdout
    for words in ("A: analysis 1: relu SAE x2", "layer 5", "height 1", "Where A leads most", "dog.n.01", "-0.333"):
        assert words in printed
    assert_one_line(admin(planted, "results", "compare", 1, 2, "--layer", 2), "analysis 2", "layer 2")
    assert_one_line(admin(planted, "results", "compare", 1, 2, "--basis", "neuron"), "neuron", "sae")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nodes", "--node", "dgo.n.01"], ["dgo.n.01", "dog.n.01"]),
        (["nodes", "--node", "dog"], ["dog", "did you mean dog.n.01"]),
        (["nodes", "--under", "zzz"], ["zzz", "taxonomy show"]),
        (["nodes", "--layer", "99"], ["99", "2, 5"]),
        (["nodes", "--analysis", "99"], ["99", "1, 2"]),
        (["nodes", "--study", "99"], ["99"]),
        (["latents", "--under", "dgo.n.01"], ["dog.n.01"]),
        (["latents", "--layer", "0"], ["2, 5"]),
        (["latents", "--analysis", "99"], ["99"]),
        (["layers", "--layer", "99"], ["99", "2, 5"]),
        (["layers", "--model", "planted/vit2"], ["planted/vit"]),
        (["layers", "--dataset", "plant"], ["planted"]),
        (["layers", "--study", "99"], ["99"]),
        (["tree", "dgo.n.01"], ["dog.n.01"]),
        (["tree", "dog.n.01", "--layer", "99"], ["2, 5"]),
        (["tree", "dog.n.01", "--dataset", "other"], ["planted"]),
        (["compare", "1", "99"], ["99", "1, 2"]),
        (["compare", "1", "99", "--studies"], ["99"]),
        (["compare", "1", "2", "--under", "dgo.n.01"], ["dog.n.01"]),
        (["compare", "1", "2", "--under", "entity.n.02"], ["entity.n.01"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_unknown_is_told_with_what_is_known(admin, planted, arguments, words):
    assert_one_line(admin(planted, "results", *arguments), *words)


def test_nothing_is_analysed(admin, service):
    assert_one_line(admin(service, "results", "nodes", "--layer", "3"), "submit")
    assert "No node fits" in admin(service, "results", "nodes").stdout
