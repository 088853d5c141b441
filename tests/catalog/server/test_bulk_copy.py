"""COPY keeps every value, and an analysis' scores appear in their partition at once."""

import json

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import text

from hsae.catalog import transaction
from hsae.catalog.server.bulk_copy import copy_rows, load_node_scores
from hsae.catalog.server.migrate import upgrade

_FLOATS = (
    "precision",
    "recall",
    "f1",
    "auroc",
    "auroc_dense",
    "z",
    "p",
    "p_node",
    "q_node",
    "f1_adjusted",
    "average_precision",
    "best_f1",
    "best_threshold",
    "mass_share",
    "mean_inside",
    "mean_outside",
)


def _scores(analysis_id: int, n: int) -> pa.Table:
    rng = np.random.default_rng(0)
    columns = {
        "analysis_id": np.full(n, analysis_id),
        "basis": pa.array(["sae"] * n),
        "seed": np.zeros(n, np.int64),
        "latent": np.arange(n, dtype=np.int32),
        "synset_id": np.arange(n) + 7,
        "is_node_best": np.ones(n, np.bool_),
        "n_images": np.full(n, 5), "n_fire": np.full(n, 3), "n_both": np.full(n, 2),
    }  # fmt: skip
    for name in _FLOATS:
        values = rng.normal(size=n) * 10.0 ** rng.integers(-300, 300, size=n)
        columns[name] = pa.array(values, mask=rng.random(n) < 0.3)
    return pa.table(columns)


def test_every_bit_of_a_score_survives(service):
    rows = _scores(3, 500)
    with transaction(service.sessions) as session:
        load_node_scores(session, 3, rows)
    with transaction(service.sessions) as session:
        for name in _FLOATS:
            stored = session.execute(text(f"SELECT {name} FROM node_score WHERE analysis_id = 3 ORDER BY latent"))
            assert stored.scalars().all() == rows[name].to_pylist(), name
        assert session.execute(text("SELECT count(*) FROM node_score_a3")).scalar_one() == 500


def test_a_failed_load_leaves_nothing(service):
    def load_and_fail():
        with transaction(service.sessions) as session:
            load_node_scores(session, 4, _scores(4, 10))
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        load_and_fail()
    with transaction(service.sessions) as session:
        assert session.execute(text("SELECT count(*) FROM node_score")).scalar_one() == 0
        assert session.execute(text("SELECT to_regclass('node_score_a4')")).scalar_one() is None


def test_json_quotes_and_nulls_pass_through_copy(service):
    detail = json.dumps({"path": 'a "quoted", odd\\name\n', "n": None})
    with transaction(service.sessions) as session:
        rows = pa.table({"name": ['he said "hi", then\nleft'], "request": [detail]})
        copy_rows(session, "study", rows)
    with transaction(service.sessions) as session:
        name, request = session.execute(text("SELECT name, request FROM study")).one()
    assert name == 'he said "hi", then\nleft'
    assert request == json.loads(detail)


def test_the_best_latents_of_nodes_come_first(service):
    rows = _scores(3, 8).drop_columns(["synset_id", "is_node_best"])
    rows = rows.append_column("synset_id", pa.array([9, 2, 5, 1, 4, 5, 7, 1]))
    rows = rows.append_column("is_node_best", pa.array([False, True, True, False, False, False, False, True]))
    with transaction(service.sessions) as session:
        load_node_scores(session, 3, rows)
    with transaction(service.sessions) as session:
        stored = session.execute(text("SELECT synset_id, latent, is_node_best FROM node_score ORDER BY ctid"))
        assert stored.all()[:4] == [(1, 7, True), (2, 1, True), (5, 2, True), (1, 3, False)]
        indexes = session.execute(
            text("SELECT indexdef FROM pg_indexes WHERE tablename = 'node_score_a3' ORDER BY indexdef")
        ).scalars()
        assert sum("WHERE is_node_best" in index for index in indexes) == 1


def test_upgrade_marks_the_best_latents_of_earlier_analyses(make_service):
    service = make_service(migrate=False)
    engine = service.sessions.kw["bind"]
    upgrade(engine, "0005")
    with transaction(service.sessions) as session:
        session.execute(text("CREATE TABLE node_score_a3 PARTITION OF node_score FOR VALUES IN (3)"))
        for latent, synset, f1 in ((4, 1, 0.5), (9, 1, 0.7), (8, 1, 0.7), (2, 2, None)):
            session.execute(
                text(
                    "INSERT INTO node_score (analysis_id, basis, seed, latent, synset_id, n_images, n_fire, n_both, f1)"
                    " VALUES (3, 'sae', 0, :latent, :synset, 5, 3, 2, :f1)"
                ),
                {"latent": latent, "synset": synset, "f1": f1},
            )
    upgrade(engine)
    with transaction(service.sessions) as session:
        best = session.execute(text("SELECT synset_id, latent FROM node_score WHERE is_node_best ORDER BY 1"))
        assert best.all() == [(1, 8), (2, 2)]
