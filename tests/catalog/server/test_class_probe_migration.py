"""Class information that analyses of earlier versions found moves to their layers, and back."""

import json

import pytest
from sqlalchemy import text
from tests.planted_scores import plant

from hsae.catalog import connect, transaction
from hsae.catalog.server.migrate import downgrade, upgrade

_BEFORE = "0012"
_LEVELS = "SELECT * FROM level_score ORDER BY analysis_id, level"
_LAYERS = (
    "SELECT analysis_id, basis, seed, probe_accuracy, knn_accuracy, path_correlation, path_correlation_shuffled"
    " FROM layer_score ORDER BY 1, 2, 3"
)
_PROGRESS = (
    "SELECT DISTINCT analysis_id, probe_accuracy, knn_accuracy, path_correlation, path_correlation_shuffled"
    " FROM layer_progress ORDER BY 1"
)


def rows(service, query):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(query)).mappings()]


@pytest.fixture
def earlier(make_service):
    """The planted analyses in the schema of an earlier version: 1 without levels; 3 of 2's layer, which copied them."""
    service = make_service()
    plant(service)
    engine = connect(service.settings)
    downgrade(engine, _BEFORE)
    config = json.dumps({"seed": 0, "format": 2})
    with transaction(service.sessions) as session:
        for statement in (
            "INSERT INTO analysis (id, key, sae_id, dataset_id, job_id, config, n_images, activations_sha256,"
            " class_sums_sha256) SELECT 3, 'copy', sae_id, dataset_id, job_id, config, n_images, '0', '0'"
            " FROM analysis WHERE id = 2",
            f"UPDATE analysis SET config = '{config}'",
            "INSERT INTO layer_score (analysis_id, basis, seed, n_latents, n_dead, dead_share, l0, n_nodes, by_height)"
            " SELECT 3, basis, seed, n_latents, n_dead, dead_share, l0, n_nodes, by_height FROM layer_score"
            " WHERE analysis_id = 2",
            "UPDATE layer_score SET probe_accuracy = 0.5 WHERE analysis_id = 1",
            "UPDATE layer_score SET probe_accuracy = 0.8, knn_accuracy = 0.7, path_correlation = 0.3,"
            " path_correlation_shuffled = 0.01 WHERE analysis_id IN (2, 3)",
            "INSERT INTO level_score SELECT a, level, level + 1, 30, 10, 0.9, 0.5, 0.01, NULL"
            " FROM generate_series(2, 3) a, generate_series(1, 2) level",
        ):
            session.execute(text(statement))
    return service, engine


def test_old_rows_stay_readable_and_come_back(earlier):
    service, engine = earlier
    levels, layers, progress = (rows(service, query) for query in (_LEVELS, _LAYERS, _PROGRESS))
    assert len(levels) == 4
    upgrade(engine)
    found = rows(service, _LEVELS)
    assert [{name: row[name] for name in levels[0]} for row in found] == levels
    assert {row["nn_accuracy"] for row in found} == {None}
    assert rows(service, _PROGRESS) == progress
    probes = rows(service, "SELECT * FROM class_probe ORDER BY activation_set_id")
    assert [(row["classifier"], row["config"], row["probe_accuracy"], row["n_neighbours"]) for row in probes] == [
        ("logistic", {"seed": 0, "format": 0}, 0.5, None), ("logistic", {"seed": 0, "format": 0}, 0.8, 20),
    ]  # fmt: skip
    downgrade(engine, _BEFORE)
    assert [rows(service, query) for query in (_LEVELS, _LAYERS, _PROGRESS)] == [levels, layers, progress]
