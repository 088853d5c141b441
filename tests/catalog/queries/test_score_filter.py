"""The filter of the questions about scores: its fields, how they narrow, and what they ask of each query."""

from dataclasses import FrozenInstanceError, fields

import pytest
from tests.planted_scores import ID, plant

from hsae.catalog import transaction
from hsae.catalog.findings.edges import edge_rows
from hsae.catalog.findings.levels import level_rows
from hsae.catalog.findings.scores import latent_rows, layer_rows, node_rows
from hsae.catalog.findings.tree import best_latents
from hsae.catalog.queries.conditions import of_analyses, of_edges, of_scores
from hsae.catalog.queries.score_filter import AnalysisFilter, EdgeFilter, LatentFilter, ScoreFilter
from hsae.catalog.queries.studies import latest_scored_study


@pytest.fixture(scope="module")
def planted(make_service):
    service = make_service()
    plant(service)
    return service


@pytest.mark.parametrize("kind", [AnalysisFilter, ScoreFilter, LatentFilter, EdgeFilter])
def test_an_unknown_field_is_a_type_error(kind):
    with pytest.raises(TypeError, match="analysis_id"):
        kind(analysis_id=1)


def test_a_filter_does_not_change():
    with pytest.raises(FrozenInstanceError):
        AnalysisFilter().layer = 3  # type: ignore[misc]


def test_only_pairs_of_latents_have_a_source_and_only_latents_a_q_value():
    assert {field.name for field in fields(EdgeFilter)} - {field.name for field in fields(ScoreFilter)} == {
        "source", "parent", "child",
    }  # fmt: skip
    with pytest.raises(TypeError, match="max_q"):
        EdgeFilter(max_q=0.1)  # type: ignore[call-arg]


def test_a_study_narrows_a_filter():
    assert AnalysisFilter().within(None) == AnalysisFilter()
    assert AnalysisFilter(layer=2).within([3, 4]) == AnalysisFilter(layer=2, analysis_ids=(3, 4))
    assert AnalysisFilter(analysis_ids=(4, 5)).within([3, 4]).analysis_ids == (4,)
    assert AnalysisFilter(analysis_ids=(5,)).within([3, 4]).analysis_ids == ()
    assert isinstance(LatentFilter(max_q=0.5).within([1]), LatentFilter)


def test_a_filter_that_asks_nothing_has_no_condition():
    values = {}
    assert of_analyses(AnalysisFilter(), values) == of_scores(ScoreFilter(limit=3), values) == ""
    assert of_edges(EdgeFilter(min_f1=0.0), values) == ""
    assert values == {}


def test_values_are_bound_and_never_part_of_the_sql():
    values = {}
    where = of_edges(EdgeFilter(model="'; DROP TABLE job", analysis_ids=(1, 2), source="taxonomy"), values)
    assert where == " AND v.model = :v_model AND v.analysis_id = ANY(:analyses) AND v.source = :v_source"
    assert values == {"v_model": "'; DROP TABLE job", "analyses": [1, 2], "v_source": "taxonomy"}


@pytest.mark.parametrize(
    ("wanted", "analyses"),
    [
        ({}, {1, 2}),
        ({"layer": 5}, {2}),
        ({"layer": 3}, set()),
        ({"model": "planted/vit"}, {1, 2}),
        ({"model": "other"}, set()),
        ({"dataset": "planted", "sae_kind": "relu"}, {1, 2}),
        ({"sae_kind": "topk"}, set()),
        ({"analysis_ids": (1,)}, {1}),
        ({"analysis_ids": (1, 2)}, {1, 2}),
        ({"analysis_ids": ()}, set()),
    ],
)
def test_every_query_takes_the_fields_of_an_analysis(planted, wanted, analyses):
    with transaction(planted.sessions) as session:
        assert {row["analysis_id"] for row in layer_rows(session, AnalysisFilter(**wanted))} == analyses
        assert {row["analysis_id"] for row in latent_rows(session, LatentFilter(**wanted))} == analyses
        assert {row["analysis_id"] for row in node_rows(session, LatentFilter(**wanted))} == analyses
        best = best_latents(session, LatentFilter(basis="sae", nodes=(ID["dog.n.01"],), **wanted))
        assert {row["analysis_id"] for row in best.values()} == analyses & ({1} if 1 in analyses else {2})
        found = latest_scored_study(session, AnalysisFilter(**wanted))
        assert (found["id"] in analyses) if analyses else found is None
        assert edge_rows(session, EdgeFilter(**wanted)) == level_rows(session, AnalysisFilter(**wanted)) == []


def test_nodes_and_scores_narrow_the_rows(planted):
    def nodes(**wanted):
        with transaction(planted.sessions) as session:
            return [
                (row["analysis_id"], row["synset"]) for row in node_rows(session, LatentFilter(basis="sae", **wanted))
            ]

    assert nodes(nodes=(ID["doll.n.01"],)) == [(2, "doll.n.01")]
    assert nodes(under=(ID["pet.n.01"],), min_f1=0.6) == [(1, "dog.n.01"), (2, "dog.n.01"), (1, "pet.n.01")]
    assert nodes(limit=1) == [(1, "dog.n.01")]
    assert len(nodes(max_q=0.01)) == len(nodes(min_f1=0.51))


def test_a_control_has_no_controls_beside_it(planted):
    with transaction(planted.sessions) as session:
        (sae,) = node_rows(session, LatentFilter(basis="sae", analysis_ids=(1,), limit=1))
        (neuron,) = node_rows(session, LatentFilter(basis="neuron", limit=1))
        every = node_rows(session, LatentFilter(analysis_ids=(1,), nodes=(ID["dog.n.01"],)))
    assert (sae["f1_neuron"], sae["f1_shuffled_taxonomy"]) == (0.3, pytest.approx(0.3))
    assert sae.keys() - neuron.keys() == {"f1_baseline", "baseline", "f1_neuron", "f1_shuffled_taxonomy"}
    assert {row["basis"]: row["f1_neuron"] for row in every} == {
        "sae": 0.3, "neuron": None, "exemplar": None, "random": None, "shuffled_taxonomy": None,
    }  # fmt: skip
