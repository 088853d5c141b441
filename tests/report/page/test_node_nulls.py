"""Nodes beside their controls, counted again row by row."""

from collections import defaultdict

import pytest

from hsae.catalog import transaction
from hsae.catalog.findings.reported.node_nulls import best_labelled_latents, node_null_rows
from hsae.vocabulary.bases import BASELINES

ANALYSES = (1, 2)


def test_nodes_beside_controls(reported):
    with transaction(reported.service.sessions) as session:
        found = {(row["analysis_id"], row["synset_id"]): row for row in node_null_rows(session, ANALYSES)}
    stored = reported.rows("SELECT * FROM node_score WHERE is_node_best AND analysis_id IN (1, 2)")
    seeds = {
        (row["analysis_id"], row["basis"]): row["n"]
        for row in reported.rows("SELECT analysis_id, basis, count(*) AS n FROM layer_score GROUP BY 1, 2")
    }
    sums: dict = defaultdict(float)
    for row in stored:
        if row["f1_adjusted"] is not None:
            key = row["analysis_id"], row["synset_id"], row["basis"]
            sums[key] += max(0.0, row["f1_adjusted"]) / seeds[key[0], key[2]]
    of_sae = [row for row in stored if row["basis"] == "sae"]
    assert len(of_sae) == len(found) > 20
    for row in of_sae:
        number, node = row["analysis_id"], row["synset_id"]
        one = found[number, node]
        assert (one["latent"], one["f1_adjusted"], one["q_node"]) == (row["latent"], row["f1_adjusted"], row["q_node"])
        reached = {basis: sums[number, node, basis] for basis in BASELINES if (number, node, basis) in sums}
        if reached:
            assert one["f1_adjusted_baseline"] == pytest.approx(max(reached.values()))
            assert reached[one["baseline"]] == pytest.approx(max(reached.values()))
        if (number, node, "shuffled_taxonomy") in sums:
            assert one["f1_adjusted_shuffled"] == pytest.approx(sums[number, node, "shuffled_taxonomy"])


def test_latents_by_falling_certainty_one_for_each_label(reported):
    with transaction(reported.service.sessions) as session:
        found = best_labelled_latents(session, ANALYSES, n_each=3)
        everything = best_labelled_latents(session, ANALYSES, n_each=10_000)
    assert [row["place"] for row in found] == sorted(row["place"] for row in found)
    assert max(row["place"] for row in found) == 3
    stored = reported.rows(
        "SELECT analysis_id, label_synset_id FROM latent WHERE basis = 'sae' AND analysis_id IN (1, 2) AND label_f1 > 0"
    )
    assert sum(row["n_with_label"] for row in everything) == len(stored)
    assert len(everything) == len({(row["analysis_id"], row["label_synset_id"]) for row in stored})
    for number in ANALYSES:
        certainty = [
            (_unknown_last(row["q"]), row["n_fire"] < 3, _unknown_last(row["f1_adjusted"], -1))
            for row in everything
            if row["analysis_id"] == number
        ]
        assert certainty == sorted(certainty)


def _unknown_last(value: float | None, sign: int = 1) -> tuple[bool, float]:
    return (value is None, 0.0 if value is None else sign * value)
