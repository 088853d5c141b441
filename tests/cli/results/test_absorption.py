"""hsae-admin results absorption, over known rows."""

import json

import pytest
from tests.cli.refusals import assert_one_line
from tests.planted_scores import ID, plant

from hsae.catalog import NodeAbsorption, transaction

# analysis, basis, seed, node, F1 of the latent, images under the node, of them present, silent and absorbed
ROWS = [
    (1, "sae", 0, "animal.n.01", 0.8, 30, 20, 10, 5),
    (1, "sae", 0, "pet.n.01", 0.3, 20, 10, 8, 6),
    (1, "sae", 0, "entity.n.01", 0.9, 40, 0, 0, 0),
    (2, "sae", 0, "animal.n.01", 0.7, 30, 20, 2, 0),
    (1, "shuffled_taxonomy", 0, "animal.n.01", 0.6, 30, 10, 5, 1),
    (1, "shuffled_taxonomy", 1, "animal.n.01", 0.5, 30, 10, 5, 3),
]


@pytest.fixture(scope="module")
def planted(make_service):
    service = make_service()
    plant(service)
    with transaction(service.sessions) as session:
        for analysis, basis, seed, node, f1, n_images, n_present, n_silent, n_absorbed in ROWS:
            session.add(
                NodeAbsorption(
                    analysis_id=analysis, basis=basis, seed=seed, synset_id=ID[node], latent=7, latent_f1=f1,
                    n_images=n_images, n_present=n_present, n_silent=n_silent, n_absorbed=n_absorbed,
                    silent_share=n_silent / n_present if n_present else None,
                    absorbed_share=n_absorbed / n_present if n_present else None,
                    random_absorbed_share=0.125 if n_present else None, direction_f1=0.75,
                    carrier=9 if n_absorbed else None, n_carrier=n_absorbed,
                )
            )  # fmt: skip
    return service


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--analysis", 1], ["pet.n.01", "animal.n.01", "entity.n.01"]),
        (["--analysis", 1, "--min-f1", 0.5], ["animal.n.01", "entity.n.01"]),
        (["--analysis", 1, "--node", "pet.n.01"], ["pet.n.01"]),
        (["--analysis", 1, "--under", "animal.n.01"], ["animal.n.01"]),
        (["--layer", 5], ["animal.n.01"]),
        (["--analysis", 1, "--limit", 1], ["pet.n.01"]),
        (["--analysis", 1, "--basis", "shuffled_taxonomy"], ["animal.n.01", "animal.n.01"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_the_greatest_share_comes_first(admin, planted, arguments, found):
    rows = json.loads(admin(planted, "results", "absorption", "--json", *map(str, arguments)).stdout)
    assert [row["synset"] for row in rows] == found


def test_a_row_has_its_node_and_every_column(admin, planted):
    (row,) = json.loads(
        admin(planted, "results", "absorption", "--json", "--analysis", "1", "--node", "animal.n.01").stdout
    )
    assert {name: row[name] for name in ("layer", "sae_kind", "height", "latent", "latent_f1", "n_absorbed")} == {
        "layer": 2, "sae_kind": "relu", "height": 1, "latent": 7, "latent_f1": 0.8, "n_absorbed": 5,
    }  # fmt: skip
    assert (row["absorbed_share"], row["random_absorbed_share"], row["carrier"]) == (0.25, 0.125, 9)


def test_the_means_stand_beside_the_shuffled_taxonomy(admin, planted):
    """Of nodes with a latent of F1 >= 0.5 on some image of which the direction is present."""
    printed = admin(planted, "results", "absorption", "--analysis", "1").stdout
    means = [line.split() for line in printed.splitlines() if line.split()[:1] in (["sae"], ["shuffled_taxonomy"])]
    assert means == [
        ["sae", "1", "0.750", "0.500", "0.250", "0.125"],
        ["shuffled_taxonomy", "2", "0.750", "0.500", "0.200", "0.125"],
    ]


def test_what_is_not_there_is_said(admin, planted, service):
    assert_one_line(admin(planted, "results", "absorption", "--node", "dgo.n.01"), "dgo.n.01", "dog.n.01")
    assert "No node fits" in admin(service, "results", "absorption").stdout
