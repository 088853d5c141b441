"""hsae-admin results edges and levels, over known pairs of latents and known scores of levels."""

import json

import pytest
from sqlalchemy import text
from tests.cli.refusals import assert_one_line
from tests.planted_scores import ID, plant, plant_probe

from hsae.catalog import Analysis, LatentEdge, Sae, transaction

ANIMAL, DOG, COW, UNLABELLED = 112, 114, 115, 7
LABELS = {ANIMAL: ("animal.n.01", 0.6), DOG: ("dog.n.01", 0.9), COW: ("cow.n.01", 0.8), UNLABELLED: None}
# analysis, basis, seed, source, parent, child, images of the parent, of the child, and of both
EDGES = [
    (1, "sae", 0, "taxonomy", ANIMAL, DOG, 20, 10, 9),
    (1, "sae", 0, "activation", ANIMAL, DOG, 20, 10, 9),
    (1, "sae", 0, "taxonomy", ANIMAL, COW, 20, 12, 6),
    (1, "sae", 0, "activation", DOG, UNLABELLED, 10, 4, 4),
    (2, "sae", 0, "activation", ANIMAL, UNLABELLED, 20, 20, 20),
    (2, "sae", 0, "activation", DOG, COW, 20, 20, 19),
    (3, "sae", 0, "activation", DOG, UNLABELLED, 9, 5, 5),
    (1, "neuron", 0, "activation", 3, 4, 9, 8, 8),
    (1, "shuffled_taxonomy", 0, "taxonomy", COW, DOG, 12, 10, 0),
    (1, "shuffled_taxonomy", 1, "taxonomy", COW, DOG, 12, 10, 5),
]
# analysis whose activations were probed, level, groups, probe, chance, k-NN
LEVELS = [
    (1, 1, 2, 0.7, 0.5, 0.6), (1, 2, 3, 0.5, 0.4, None),
    (2, 1, 2, 0.9, 0.5, 0.8), (2, 2, 3, 0.8, 0.4, 0.7),
    (3, 1, 2, 0.91, 0.5, 0.8), (3, 2, 3, 0.81, 0.4, 0.7),
]  # fmt: skip


@pytest.fixture(scope="module")
def planted(make_service):
    """The planted analyses, and analysis 3 of a TopK SAE of the second one's layer, with edges and levels."""
    service = make_service()
    plant(service)
    with transaction(service.sessions) as session:
        second = session.get_one(Analysis, 2)
        relu = session.get_one(Sae, second.sae_id)
        topk = Sae(
            key="sae-topk", activation_set_id=relu.activation_set_id, job_id=relu.job_id, kind="topk", config={},
            expansion=2, n_latents=200, seed=0, n_steps=1, cosine=0.9, l0=3.0, dead_share=0.0, metrics={},
            weights_sha256="0",
        )  # fmt: skip
        session.add(topk)
        session.flush()
        session.add(
            Analysis(id=3, key="analysis-topk", sae_id=topk.id, dataset_id=1, job_id=second.job_id, config={},
                     n_images=40, activations_sha256="0", class_sums_sha256="0")
        )  # fmt: skip
        session.flush()
        session.execute(text("DELETE FROM latent"))
        columns = {(edge[0], "sae", latent) for edge in EDGES for latent in LABELS}
        columns |= {(1, "neuron", 3), (1, "neuron", 4)}
        for analysis, basis, latent in columns:
            label, f1 = (LABELS[latent] if basis == "sae" else None) or (None, None)
            session.execute(
                text(
                    "INSERT INTO latent (analysis_id, basis, latent, is_dead, n_fire, density, n_associated,"
                    " label_synset_id, label_f1, top_images) VALUES (:a, :b, :l, false, 5, 0.1, 1, :label, :f1, '[]')"
                ),
                {"a": analysis, "b": basis, "l": latent, "label": label and ID[label], "f1": f1},
            )
        for analysis, basis, seed, source, parent, child, n_parent, n_child, n_both in EDGES:
            nodes = [ID[LABELS[latent][0]] if source == "taxonomy" else None for latent in (parent, child)]
            session.add(
                LatentEdge(
                    analysis_id=analysis, basis=basis, seed=seed, source=source, parent=parent, child=child,
                    parent_synset_id=nodes[0], child_synset_id=nodes[1], n_parent=n_parent, n_child=n_child,
                    n_both=n_both, implication=n_both / n_child, miss_rate=1 - n_both / n_child,
                    expected_implication=n_parent / 40, adjusted_implication=(n_both / n_child - n_parent / 40)
                    / (1 - n_parent / 40), is_confirmed=n_both >= 8,
                    reverse_implication=n_both / n_parent, is_ms_abstract=None,
                )
            )  # fmt: skip
        for analysis in (1, 2, 3):
            plant_probe(session, analysis, [level[1:] for level in LEVELS if level[0] == analysis])
    return service


def named(rows) -> list[tuple]:
    """What names each of the rows."""
    return [(r["analysis_id"], r["basis"], r["seed"], r["source"], r["parent"], r["child"]) for r in rows]


def expected(chosen) -> list[tuple]:
    """Names of the edges that are chosen, in the order that is promised."""
    order = sorted(filter(chosen, EDGES), key=lambda e: (-e[8] / e[7], -e[7], e[0], e[3], e[4], e[5]))
    return [edge[:6] for edge in order]


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ([], lambda e: e[1] == "sae"),
        (["--basis", "neuron"], lambda e: e[1] == "neuron"),
        (["--basis", "shuffled_taxonomy"], lambda e: e[1] == "shuffled_taxonomy"),
        (["--basis", "pca"], lambda _: False),
        (["--analysis", 1], lambda e: e[:2] == (1, "sae")),
        (["--study", 1], lambda e: e[:2] == (1, "sae")),
        (["--layer", 5], lambda e: e[0] in (2, 3)),
        (["--sae", "topk"], lambda e: e[0] == 3),
        (["--source", "taxonomy"], lambda e: e[1:4:2] == ("sae", "taxonomy")),
        (["--source", "activation", "--layer", 2], lambda e: e[:4] == (1, "sae", 0, "activation")),
        (["--parent", DOG], lambda e: e[1] == "sae" and e[4] == DOG),
        (["--child", COW], lambda e: e[1] == "sae" and e[5] == COW),
        (["--node", "dog.n.01"], lambda e: e[1] == "sae" and e[4] == DOG),
        (["--node", "dog.n.01", "--node", f"n{ID['animal.n.01']:08d}"], lambda e: e[1] == "sae"),
        (["--node", "cow.n.01"], lambda _: False),
        (["--under", "animal.n.01"], lambda e: e[1] == "sae"),
        (["--under", "pet.n.01"], lambda e: e[1] == "sae" and e[4] == DOG),
        (["--min-f1", 0.6], lambda e: e[1] == "sae" and e[5] != UNLABELLED),
        (["--min-f1", 0.7], lambda e: e[1] == "sae" and e[4:6] == (DOG, COW)),
        (["--under", "animal.n.01", "--parent", ANIMAL, "--analysis", 2], lambda e: e[0] == 2 and e[4] == ANIMAL),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)  # fmt: skip
def test_edges(ask, arguments, chosen):
    assert named(ask("edges", *arguments)) == expected(chosen)


def test_an_edge_says_both_labels_and_nodes(ask):
    (row,) = ask("edges", "--analysis", 1, "--source", "taxonomy", "--child", COW)
    assert {name: row[name] for name in ("model", "dataset", "layer", "sae_kind")} == {
        "model": "planted/vit", "dataset": "planted", "layer": 2, "sae_kind": "relu",
    }  # fmt: skip
    assert (row["parent_label"], row["parent_f1"], row["parent_node"]) == ("animal.n.01", 0.6, "animal.n.01")
    assert (row["child_label"], row["child_f1"], row["child_node"]) == ("cow.n.01", 0.8, "cow.n.01")
    assert (row["n_parent"], row["n_child"], row["n_both"]) == (20, 12, 6)
    assert (row["implication"], row["miss_rate"], row["dominance"]) == (0.5, 0.5, None)
    assert (row["expected_implication"], row["adjusted_implication"], row["is_confirmed"]) == (0.5, 0.0, False)
    (row,) = ask("edges", "--analysis", 2, "--child", UNLABELLED)
    assert (row["child_label"], row["child_f1"], row["parent_node"], row["child_node"]) == (None, None, None, None)
    # A shuffled basis has no latents of its own: the labels are the SAE's.
    shuffled = ask("edges", "--basis", "shuffled_taxonomy")
    assert [(row["seed"], row["parent_label"], row["child_label"]) for row in shuffled] == [
        (1, "cow.n.01", "dog.n.01"),
        (0, "cow.n.01", "dog.n.01"),
    ]


def test_edges_are_printed_up_to_a_limit(admin, ask, planted):
    assert named(ask("edges", "--limit", 2)) == expected(lambda e: e[1] == "sae")[:2]
    lines = admin(planted, "results", "edges", "--analysis", 1, "--source", "taxonomy").stdout.splitlines()
    assert lines[4:7] == ["", "↑: more is better.", ""]
    for words in ("animal.n.01", "dog.n.01", "0.900"):
        assert words in lines[2]
    means = [line.split() for line in lines[8:]]  # below a title
    assert [line[:7] for line in means] == [
        ["basis", "pairs", "confirmed", "P(p|c)", "by", "chance", "adjusted"],
        ["sae", "2", "1", "0.700", "0.500", "0.400", "-"],
        ["shuffled_taxonomy", "2", "0", "0.250", "0.300", "-0.071", "-"],
    ]
    assert "No pair of latents fits" in admin(planted, "results", "edges", "--basis", "random").stdout


def test_levels(ask):
    def accuracies(*arguments: object) -> list[tuple]:
        rows = ask("levels", *arguments)
        return [(r["layer"], r["analysis_id"], r["level"], r["probe_accuracy"], r["knn_accuracy"]) for r in rows]

    first, third = [(2, 1, 1, 0.7, 0.6), (2, 1, 2, 0.5, None)], [(5, 3, 1, 0.91, 0.8), (5, 3, 2, 0.81, 0.7)]
    # Both SAEs of layer 5 have the same activations; the latest probe of them counts, beside the latest analysis.
    assert accuracies() == first + third
    assert accuracies("--layer", 5) == third
    assert accuracies("--study", 1) == first
    assert accuracies("--model", "planted/vit", "--dataset", "planted") == first + third
    (row,) = [row for row in ask("levels", "--layer", 2) if row["level"] == 2]
    assert {name: row[name] for name in ("model", "dataset", "tokens", "n_groups", "n_train", "n_test")} == {
        "model": "planted/vit", "dataset": "planted", "tokens": "cls", "n_groups": 3, "n_train": 30, "n_test": 10,
    }  # fmt: skip
    assert (row["probe_chance"], row["probe_l2"]) == (0.4, 0.1)


def test_levels_are_a_table_of_layers(admin, planted):
    result = admin(planted, "results", "levels", "--study", "all")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert "cls of planted/vit, planted" in " ".join(result.stdout.split())
    first = lines.index(["layer", "1", "2"])
    assert lines[first + 1 : first + 9] == [
        ["-", "groups", "2", "3"],
        ["-", "chance", "0.50", "0.40"],
        ["2", "probe", "↑", "0.70", "0.50"],
        ["2", "k-NN", "↑", "0.60", "-"],
        ["2", "1-NN", "↑", "0.55", "0.45"],
        ["5", "probe", "↑", "0.91", "0.81"],
        ["5", "k-NN", "↑", "0.80", "0.70"],
        ["5", "1-NN", "↑", "0.55", "0.45"],
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["edges", "--node", "dgo.n.01"], ["dgo.n.01", "dog.n.01"]),
        (["edges", "--under", "zzz"], ["zzz", "taxonomy show"]),
        (["edges", "--layer", "99"], ["99", "2, 5"]),
        (["edges", "--analysis", "99"], ["99", "1, 2, 3"]),
        (["edges", "--study", "99"], ["99"]),
        (["levels", "--layer", "99"], ["99", "2, 5"]),
        (["levels", "--model", "planted/vit2"], ["planted/vit"]),
        (["levels", "--dataset", "plant"], ["planted"]),
        (["levels", "--study", "99"], ["99"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_unknown_is_told_with_what_is_known(admin, planted, arguments, words):
    assert_one_line(admin(planted, "results", *arguments), *words)


def test_nothing_is_analysed(admin, service):
    assert "No pair of latents fits" in admin(service, "results", "edges").stdout
    assert json.loads(admin(service, "results", "edges", "--json").stdout) == []
    assert "No scores fit" in admin(service, "results", "levels").stdout
    assert json.loads(admin(service, "results", "levels", "--json").stdout) == []
    assert_one_line(admin(service, "results", "levels", "--layer", "3"), "submit")
