"""One latent, pairs, what fires on an image, a search, a node across layers: as the catalog has them."""

import json

import numpy as np
import pytest
from sqlalchemy import text

import hsae
from hsae.catalog import transaction


@pytest.fixture
def sql(studied):
    def ask(query, **values):
        with transaction(studied.sessions) as session:
            return [dict(row) for row in session.execute(text(query), values).mappings()]

    return ask


def test_tables_say_what_is_in_sample(workspace, analysis, studied, sql):
    """The column is that of the analysis' split, in all tables."""
    tables = [
        analysis.latents(), analysis.nodes(), analysis.pairs(), analysis.image_latents(some_image(analysis)),
        analysis.latent(0), workspace.study(1).layers(), workspace.study(1).node("animal.n.01"),
    ]  # fmt: skip
    for table in tables:
        assert len(table) > 0
        assert not table["in_sample"].any()
        assert table["half"].isna().all()
    (row,) = sql("SELECT split FROM analysis WHERE id = :id", id=analysis.id)
    change = "UPDATE analysis SET split = CAST(:split AS jsonb) WHERE id = :id RETURNING 1"
    sql(change, split=None, id=analysis.id)
    try:
        assert analysis.latents(limit=3)["in_sample"].all()
        assert analysis.nodes(limit=3)["in_sample"].all()
        layers = workspace.study(1).layers().set_index("analysis_id")["in_sample"]
        assert layers[analysis.id]
        assert layers.sum() == 1
    finally:
        sql(change, split=json.dumps(row["split"]), id=analysis.id)


def test_latents_by_f1_and_by_adjusted_f1(analysis):
    """They are different numbers: one argument is of each."""
    every = analysis.latents()
    found = {name: set(analysis.latents(**{name: 0.4}).latent) for name in ("min_f1", "min_f1_adjusted")}
    assert found["min_f1"] == set(every[every.f1 >= 0.4].latent)
    assert found["min_f1_adjusted"] == set(every[every.f1_adjusted >= 0.4].latent)
    assert set() < found["min_f1_adjusted"] < found["min_f1"]
    with pytest.raises(hsae.UserError, match="min_f1_adjusted is 'high': give a number"):
        analysis.latents(min_f1_adjusted="high")


def some_image(analysis) -> int:
    stored = analysis.latent_activations()
    return int(stored.images[np.diff(stored.z.indptr).argmax()])


def test_pairs_by_parent_child_and_source(analysis, sql):
    stored = sql(
        "SELECT * FROM latent_edge WHERE analysis_id = :id AND basis = 'sae' AND implication IS NOT NULL",
        id=analysis.id,
    )
    found = analysis.pairs()
    assert len(found) == len(stored) > 0
    assert sorted(zip(found.parent, found.child, found.source, strict=True)) == sorted(
        (row["parent"], row["child"], row["source"]) for row in stored
    )
    assert found.implication.is_monotonic_decreasing
    one = found.iloc[0]
    assert set(analysis.pairs(parent=int(one.parent)).parent) == {one.parent}
    assert set(analysis.pairs(child=one.child).child) == {one.child}, "a number of NumPy is one, too"
    assert set(analysis.pairs(source="taxonomy").source) == {"taxonomy"}
    assert len(analysis.pairs(limit=2)) == 2
    confirmed = [row for row in stored if row["is_confirmed"]]
    assert len(analysis.pairs(confirmed=True)) == len(confirmed)
    assert len(analysis.pairs(basis="shuffled_taxonomy")) > 0


def test_latents_that_fire_on_an_image_come_with_their_labels(analysis, sql):
    stored = analysis.latent_activations()
    image = some_image(analysis)
    row = stored.z[[int(np.flatnonzero(stored.images == image)[0])]].toarray()[0]
    found = analysis.image_latents(image)
    assert sorted(found.latent) == np.flatnonzero(row > 0).tolist()
    assert found.activation.tolist() == sorted(row[row > 0].tolist(), reverse=True)
    assert [row[latent] for latent in found.latent] == found.activation.tolist()
    labels = {
        one["latent"]: one["name"]
        for one in sql(
            "SELECT l.latent, y.name FROM latent l LEFT JOIN synset y ON y.id = l.label_synset_id"
            " WHERE l.analysis_id = :id AND l.basis = 'sae'",
            id=analysis.id,
        )
    }
    assert [labels[latent] for latent in found.latent] == [None if one != one else one for one in found.synset]
    assert analysis.image_latents(image, limit=2).latent.tolist() == found.latent.tolist()[:2]


def test_one_latent_has_its_numbers_beside_their_nulls(analysis):
    first = analysis.latents(limit=1).iloc[0]
    (row,) = analysis.latent(first.latent).to_dict("records")
    assert (row["latent"], row["synset"], row["f1_adjusted"]) == (first.latent, first.synset, first.f1_adjusted)
    assert {"baseline_adjusted", "tree_adjusted", "coherence_p", "stability"} <= set(row)
    assert len(analysis.latent(3, basis="exemplar")) == 1


def test_a_search_finds_names_words_and_classes(analysis, sql):
    found = analysis.search("animal")
    assert found.synset[0] == "animal.n.01", "an exact name comes first"
    best = analysis.nodes().set_index("synset")
    assert found.latent[0] == best.latent["animal.n.01"]
    (some,) = sql("SELECT k.label FROM dataset_class k ORDER BY k.label LIMIT 1")
    assert len(analysis.search(some["label"])) >= 1
    assert len(analysis.search("no such word")) == 0
    assert list(analysis.search("no such word").columns)[:2] == ["synset", "words"]
    assert len(analysis.search("_", limit=4)) <= 4


def test_a_node_across_layers_is_that_of_each_analysis(workspace, study):
    found = study.node("animal.n.01")
    assert len(found) == 4
    for row in found.itertuples():
        best = workspace.analysis(row.analysis_id).nodes().set_index("synset").loc["animal.n.01"]
        assert (row.latent, row.f1_adjusted, row.layer) == (best.latent, best.f1_adjusted, best.layer)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda an: an.pairs(source="luck"), "source is 'luck': choose from taxonomy, activation"),
        (lambda an: an.pairs(basis="luck"), "has no basis 'luck': choose from sae"),
        (lambda an: an.pairs(parent="seven"), "the latents are the text|is no number of a latent"),
        (lambda an: an.pairs(under="animl.n.01"), "did you mean animal.n.01"),
        (lambda an: an.pairs(limit=-1), "limit is -1"),
        (lambda an: an.image_latents(10**7), "has no image 10000000"),
        (lambda an: an.names(concept="dog"), "has no names by text: submit the same study with names={'by': MODEL}"),
        (lambda an: an.name_agreement(), "has no names by text"),
        (
            lambda an: an.interventions(),
            r"no interventions in the table edits: .* intervene=\{'nodes': \[NODE\]\}.* the deepest",
        ),
        (lambda an: an.interventions("steerability"), r"table steerability: submit .* intervene=\{'steer': 100\}"),
        (lambda an: an.interventions("luck"), "table is 'luck': choose from edits, contrasts"),
        (lambda an: an.interventions("readouts", node="dog.n.01"), "is of the whole layer: leave node and under out"),
        (lambda an: an.interventions(under="animl.n.01"), "did you mean animal.n.01"),
        (lambda an: an.interventions(limit=-1), "limit is -1"),
        (lambda an: an.latents(min_effect="much"), "min_effect is 'much': give a number"),
        (lambda an: an.image_latents(-1), "image is -1: give a whole number from 0"),
        (lambda an: an.image_latents("a.jpg"), "image is 'a.jpg': give a whole number from 0"),
        (lambda an: an.latent(10**9), "has no latent 1000000000 of the basis sae"),
        (lambda an: an.latent(1, basis="shuffled_taxonomy"), "has no basis 'shuffled_taxonomy'"),
        (lambda an: an.search(" "), "words is ' ': give a word"),
        (lambda an: an.search("dog", limit=-2), "limit is -2: give a whole number from 0"),
    ],
)
def test_mistakes_are_one_line(analysis, ask, message):
    with pytest.raises(hsae.UserError, match=message) as raised:
        ask(analysis)
    assert "\n" not in str(raised.value)


def test_an_unknown_argument_is_refused_as_by_any_function(analysis):
    with pytest.raises(TypeError, match="unexpected keyword argument 'min_efect'"):
        analysis.latents(min_efect=1)
    assert analysis.latents(used=True).empty, "nothing was measured"


def test_an_unknown_node_or_basis_of_a_study_is_told(study):
    with pytest.raises(hsae.UserError, match="did you mean animal.n.01"):
        study.node("animl.n.01")
    with pytest.raises(hsae.UserError, match="there is no basis 'luck': choose from sae"):
        study.node("animal.n.01", basis="luck")
