"""A node score has one name: the field that holds it, the column that stores it, and the column of an export."""

from dataclasses import fields

from hsae.catalog import NodeScore
from hsae.hierarchy.basis_result import NodeTable
from hsae.hierarchy.scores.pair_sums import NodeScores, PairSums
from hsae.hierarchy.scores.ranking_scores import RankingScores
from hsae.pipeline.exports.files import SCORES

_OF_THE_BASIS = {"analysis_id", "basis", "seed"}
_COUNTS = {"n_images", "n_fire", "n_both"}


def names(table: type) -> set[str]:
    return {field.name for field in fields(table)}


def test_every_field_of_a_pair_has_its_column_and_every_column_its_field():
    columns = set(NodeScore.__table__.c.keys())
    stored = {"synset_id" if name == "node" else name for name in names(NodeTable)}
    assert stored | _OF_THE_BASIS == columns
    assert names(NodeScores) | names(RankingScores) <= stored


def test_every_score_of_the_sums_is_their_method():
    for name in names(NodeScores) - _COUNTS:
        assert callable(getattr(PairSums, name, None)), f"NodeScores.{name} has no method of this name in PairSums"


def test_an_export_has_every_score_of_the_sums_and_a_sentence_for_each():
    assert set(SCORES) == names(NodeScores)
    for name in SCORES:
        assert NodeScore.__table__.c[name].comment
