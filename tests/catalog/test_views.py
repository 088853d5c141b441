"""The views that save joins: what an analysis was made from, and what its controls reach at a node."""

import pytest
from sqlalchemy import text
from tests.planted_scores import HEIGHTS, ID, LAYERS, plant

from hsae.catalog import Analysis, ClassProbe, Comparison, LatentStability, Sae, transaction


@pytest.fixture(scope="module")
def planted(make_service):
    service = make_service()
    plant(service)
    return service


def _rows(service, query):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(query)).mappings()]


def test_every_analysis_has_one_row_with_what_it_was_made_from(planted):
    rows = _rows(planted, "SELECT * FROM analysis_input ORDER BY analysis_id")
    assert {row["analysis_id"]: row["layer"] for row in rows} == LAYERS
    first = rows[0]
    with transaction(planted.sessions) as session:
        analysis = session.get_one(Analysis, 1)
        sae = session.get_one(Sae, analysis.sae_id)
        expected = {
            "analysis_key": analysis.key, "job_id": analysis.job_id, "n_images": 40, "sae_id": sae.id,
            "sae_key": sae.key, "sae_kind": "relu", "expansion": 2, "n_latents": 200, "sae_seed": 0, "sae_config": {},
            "activation_set_id": sae.activation_set_id, "activation_key": "activations-2", "tokens": "cls",
            "dtype": "float32", "n_views": 1, "model_id": 1, "model": "planted/vit", "revision": "0", "d_model": 4,
            "dataset_id": 1, "dataset": "planted", "scoring": {}, "created_at": analysis.created_at,
            "split": None, "n_train": None, "n_select": None, "n_score": None,
        }  # fmt: skip
    assert {name: first[name] for name in first.keys() - {"analysis_id", "layer"}} == expected


def test_controls_at_every_node_are_means_over_the_seeds_that_were_scored(planted):
    rows = _rows(planted, "SELECT * FROM node_control WHERE analysis_id = 1")
    found = {row["synset_id"]: (row["f1_neuron"], row["f1_shuffled_taxonomy"]) for row in rows}
    assert found.keys() == {ID[name] for name in HEIGHTS}
    assert found[ID["dog.n.01"]] == (0.3, pytest.approx((0.2 + 0.4) / 2))
    assert found[ID["animal.n.01"]] == (0.0, 0.05)  # no neuron fires there, nor a latent in the second seed
    assert found[ID["doll.n.01"]] == (0.0, 0.0)


def test_the_best_baseline_of_a_node_is_the_best_mean_over_its_draws(planted):
    found = {
        (row["analysis_id"], row["synset_id"]): (row["basis"], row["f1"])
        for row in _rows(planted, "SELECT * FROM node_baseline")
    }
    assert found == {
        (1, ID["dog.n.01"]): ("exemplar", 0.6),  # a neuron has 0.3, random directions (0 + 0.5) / 2
        (1, ID["animal.n.01"]): ("random", pytest.approx(0.2)),
    }


def test_a_latent_has_the_seed_stability_of_the_latest_comparison(make_service):
    service = make_service()
    plant(service)
    latent = 100 + ID["dog.n.01"]
    rows = "SELECT analysis_id, basis, seed_stability, stability_chance, is_one_to_one FROM latent_label ORDER BY 1, 2"
    assert _rows(service, rows) == [
        {"analysis_id": analysis, "basis": "sae"}
        | dict.fromkeys(("seed_stability", "stability_chance", "is_one_to_one"))
        for analysis in LAYERS
    ]
    with transaction(service.sessions) as session:
        job = session.get_one(Analysis, 1).job_id
        for number in (1, 2):
            session.add(Comparison(id=number, key=str(number), job_id=job, dataset_id=1, config={}))
            session.flush()
            session.add(
                LatentStability(comparison_id=number, analysis_id=1, latent=latent, stability=0.5 * number, chance=0.25,
                                is_one_to_one=number == 2)
            )  # fmt: skip
        # The best exemplar has the latent's number, and no stability.
        session.execute(
            text(
                "INSERT INTO latent (analysis_id, basis, latent, is_dead, n_fire, density, n_associated, top_images,"
                " label_synset_id) SELECT analysis_id, 'exemplar', latent, is_dead, n_fire, density, n_associated,"
                " '[]', label_synset_id FROM latent WHERE analysis_id = 1"
            )
        )
    found = {(row["analysis_id"], row["basis"]): tuple(row.values())[2:] for row in _rows(service, rows)}
    assert found == {(1, "sae"): (1.0, 0.25, True), (1, "exemplar"): (None,) * 3, (2, "sae"): (None,) * 3}


def test_a_control_that_was_not_scored_has_no_f1(planted):
    (row,) = _rows(planted, f"SELECT * FROM node_control WHERE analysis_id = 2 AND synset_id = {ID['cow.n.01']}")
    assert (row["f1_neuron"], row["f1_shuffled_taxonomy"]) == (None, 0.3)


def _of_images(images, **division):
    """The split of an analysis of other images than those that train, as rows store it."""
    return {"scored": {"images": images, **(division or {"select": 0.5, "score": 0.5, "seed": 0})}}


_SHARES = {"train": 0.5, "select": 0.25, "score": 0.25, "seed": 0}
_GROUPS, _FEWER = {"select": ["a", "b"], "score": ["c"]}, {"select": ["a"], "score": ["c"]}


@pytest.mark.parametrize(
    ("split", "probed", "shown"),
    [
        (_of_images("x"), [_of_images("y"), _SHARES, None], None),
        (_of_images("x"), [_of_images("x"), _of_images("y"), _SHARES, None], 1),
        (None, [_of_images("x")], None),
        (_SHARES, [_of_images("x")], None),
        (_SHARES, [_SHARES, None, _of_images("x")], 1),
        (_SHARES, [_SHARES, _SHARES | {"fold": 1}], 1),
        (_SHARES | {"fold": 1}, [_SHARES | {"fold": 1}, _SHARES], 1),
        ({"groups": _GROUPS}, [{"groups": _GROUPS}, {"groups": _FEWER}], 1),
        (_of_images("x", groups=_GROUPS), [_of_images("x", groups=_GROUPS), _of_images("x", groups=_FEWER)], 1),
    ],
    ids=[
        "other images",
        "own images",
        "in-sample",
        "of one data set",
        "own shares",
        "first fold",
        "second fold",
        "groups",
        "groups of own images",
    ],
)
def test_an_analysis_has_the_probe_of_its_own_scored_images_and_groups(service, split, probed, shown):
    """The latest probes are of others: of other images, which no analysis shows, or of fewer groups."""
    plant(service)
    with transaction(service.sessions) as session:
        analysis = session.get_one(Analysis, 1)
        if split is not None:
            analysis.split = split | {"score_dataset": "val", "by": "images", "is_halved": False}
        activations = session.get_one(Sae, analysis.sae_id).activation_set_id
        for number, of_probe in enumerate(probed, start=1):
            config = {"seed": 0} | ({} if of_probe is None else {"split": of_probe})
            session.add(
                ClassProbe(id=number, key=str(number), activation_set_id=activations, dataset_id=1,
                           job_id=analysis.job_id, config=config, classifier="ridge", n_images=40)
            )  # fmt: skip
    found = _rows(service, "SELECT class_probe_id FROM analysis_probe WHERE analysis_id = 1")
    assert [row["class_probe_id"] for row in found] == ([] if shown is None else [shown])
