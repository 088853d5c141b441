"""COPY keeps every value, and an analysis' scores appear in their partition at once."""

import json

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import text

from hsae.catalog import transaction
from hsae.catalog.bulk import copy_rows, load_node_scores

_FLOATS = (
    "precision",
    "recall",
    "f1",
    "auroc",
    "auroc_dense",
    "z",
    "p",
    "q",
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
