"""The nulls beside a number are those of the report and of the API, on every page that has them."""

import pytest

from hsae.catalog.findings.browse.latents import LatentList, latent_list, nodes_of_latent
from hsae.catalog.findings.browse.nodes import best_at_nodes, node_across_layers
from hsae.catalog.findings.reported.node_nulls import node_null_rows
from hsae.catalog.findings.scores import latent_details


@pytest.fixture(scope="module")
def nulls(explored):
    """What the report shows beside the best latent of every node, by analysis and node."""
    analyses = [row["analysis_id"] for row in explored.sql("SELECT analysis_id FROM analysis_input")]
    with explored.sources.reading() as session:
        rows = node_null_rows(session, analyses)
    return {
        (row["analysis_id"], row["synset_id"]): (
            row["baseline"], row["f1_adjusted_baseline"], row["f1_adjusted_shuffled"],
        )
        for row in rows
    }  # fmt: skip


def shown(rows):
    return {
        (row["analysis_id"], row["synset_id"]): (row["baseline"], row["baseline_adjusted"], row["tree_adjusted"])
        for row in rows
    }


def agree(found, nulls) -> int:
    """Compare; the number of nodes compared."""
    for place, (baseline, of_baseline, of_tree) in found.items():
        if place in nulls:
            expected = nulls[place]
            assert baseline == expected[0], place
            assert (of_baseline, of_tree) == pytest.approx(expected[1:], nan_ok=True), place
    return len(found.keys() & nulls.keys())


def test_some_nulls_depend_on_how_seeds_are_averaged(explored, nulls):
    """What these tests tell apart is there: means in which a seed below chance counts as 0."""
    below = explored.one(
        "SELECT count(*) FROM node_score WHERE basis = 'shuffled_taxonomy' AND is_node_best AND f1_adjusted < 0"
    )
    assert below > 0
    assert len(nulls) > 20


def test_the_tree_has_the_reports_nulls(explored, nulls):
    analyses = sorted({analysis for analysis, _ in nulls})
    with explored.sources.reading() as session:
        for analysis in analyses:
            nodes = [node for one, node in nulls if one == analysis]
            found = shown(best_at_nodes(analysis, nodes, basis="sae").ask(session))
            assert agree(found, nulls) == len(nodes) == len(found)


def test_a_node_across_layers_has_the_reports_nulls(explored, nulls):
    analyses = sorted({analysis for analysis, _ in nulls})
    with explored.sources.reading() as session:
        for node in sorted({node for _, node in nulls}):
            found = shown(node_across_layers(node, analyses, basis="sae").ask(session))
            assert agree(found, nulls) == len(found) > 0


def test_latents_and_their_nodes_have_the_reports_nulls(explored, nulls):
    analyses = sorted({analysis for analysis, _ in nulls})
    with explored.sources.reading() as session:
        rows = latent_list(LatentList(analyses=analyses, least={}, limit=200)).ask(session)
        assert agree(shown(rows), nulls) > 10
        for row in rows[:5]:
            nodes = nodes_of_latent(row["analysis_id"], "sae", row["latent"], limit=20).ask(session)
            assert agree(shown(nodes), nulls) > 0


def test_the_api_has_the_same_null_of_a_latents_label(explored):
    analysis = explored.one("SELECT min(analysis_id) FROM analysis_input WHERE dataset = 'small'")
    with explored.sources.reading() as session:
        rows = latent_list(LatentList(analyses=[analysis], least={}, limit=200)).ask(session)
        details = latent_details(session, analysis, [row["latent"] for row in rows])
    compared = [row for row in rows if row["latent"] in details]
    assert len(compared) > 5
    for row in compared:
        assert row["tree_adjusted"] == pytest.approx(details[row["latent"]]["f1_adjusted_shuffled"]), row["latent"]
