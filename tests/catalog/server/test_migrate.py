"""The schema that migrations make is the one that the models say, with a comment on everything."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from tests.planted_scores import plant

from hsae.catalog import Base, connect
from hsae.catalog.server.migrate import downgrade, upgrade
from hsae.catalog.server.schema_version import require_current_schema, schema_version
from hsae.errors import UserError

VIEWS = {
    "analysis_input", "latent_label", "node_best_latent", "node_baseline", "node_control", "layer_progress",
    "layer_coherence", "layer_interval", "latent_edge_label", "analysis_probe", "level_score",
}  # fmt: skip
TABLES = {
    "job", "job_event", "model", "study", "dataset", "dataset_class", "activation_set", "activation_shard", "sae",
    "analysis", "latent", "latent_place", "latent_edge", "latent_family", "node_score", "layer_score",
    "class_probe", "class_probe_level", "node_absorption", "layer_replicate", "layer_tree_shuffle",
    "comparison", "comparison_score", "comparison_difference", "comparison_analysis", "comparison_trend",
    "latent_stability", "synset", "hypernym", "hypernym_closure", "map_set", "latent_map", "sae_curve",
    "intervention_set", "intervention_readout", "intervention", "intervention_effect", "intervention_distance",
    "intervention_contrast",
}  # fmt: skip


def test_upgrade_from_empty_downgrade_and_upgrade_again(make_service):
    engine = connect(make_service(migrate=False).settings)
    assert schema_version(engine).current is None
    with pytest.raises(UserError, match="db upgrade"):
        require_current_schema(engine)
    upgrade(engine)
    require_current_schema(engine)
    names = inspect(engine).get_table_names()
    assert set(names) >= TABLES
    downgrade(engine, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    assert inspect(engine).get_view_names() == []
    assert upgrade(engine).up_to_date


def test_models_and_migrations_agree(service):
    engine = service.sessions.kw["bind"]
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_every_table_column_and_view_has_a_comment(service):
    inspector = inspect(service.sessions.kw["bind"])
    for table in Base.metadata.tables:
        assert inspector.get_table_comment(table)["text"], table
        for column in inspector.get_columns(table):
            assert column["comment"], f"{table}.{column['name']}"
    assert set(inspector.get_view_names()) == VIEWS
    for view in VIEWS:
        with service.sessions() as session:
            comment = session.execute(text(f"SELECT obj_description('{view}'::regclass)")).scalar()
        assert comment, view
        for column in inspector.get_columns(view):
            assert column["comment"], f"{view}.{column['name']}"


def test_views_before_and_after_the_read_side_have_the_same_columns(make_service):
    engine = connect(make_service().settings)
    latest = _columns(engine)
    downgrade(engine, "0011")
    now = _columns(engine)
    downgrade(engine, "0010")
    before = _columns(engine)
    later = {
        "analysis_input", "node_control", "analysis_probe", "level_score", "node_baseline", "layer_coherence",
        "layer_interval",
    }  # fmt: skip
    assert before.keys() == VIEWS - later
    assert before == {view: now[view] for view in before}
    upgrade(engine)
    assert _columns(engine) == latest


def _columns(engine):
    """By view its columns and their types."""
    inspector = inspect(engine)
    return {
        view: [(column["name"], str(column["type"])) for column in inspector.get_columns(view)]
        for view in inspector.get_view_names()
    }


def test_raw_columns_of_layers_are_renamed_and_downgrade_gives_names_and_comments_back(make_service):
    service = make_service()
    plant(service)
    engine = connect(service.settings)
    views = ("layer_progress", "latent_label")
    rows = "SELECT layer, basis, share_nodes_f1{} FROM layer_progress ORDER BY 1, 2"
    with engine.begin() as connection:
        connection.execute(text("UPDATE layer_score SET share_nodes_f1 = 0.5, purity = 0.25, purity_null = 0.125"))
        raw = connection.execute(text(rows.format("_raw"))).all()
        excess = connection.execute(text("SELECT DISTINCT purity_excess FROM layer_progress")).all()
    assert {row[-1] for row in raw} == {0.5}
    assert excess == [(0.125,)]
    latest = {view: _comments(engine, view) for view in views}
    downgrade(engine, "0019")
    before = {view: _comments(engine, view) for view in views}
    assert {"lch_height", "coverage", "share_nodes_f1", "best_f1_inner"} < before["layer_progress"].keys()
    assert before["layer_progress"].keys().isdisjoint({"lch_height_raw", "coherence_excess", "lch_excess", "n_nodes"})
    assert before["latent_label"].keys() == latest["latent_label"].keys() - {
        "seed_stability", "stability_chance", "is_one_to_one",
    }  # fmt: skip
    for view in views:
        assert all(before[view].values())
    with engine.connect() as connection:
        assert connection.execute(text(rows.format(""))).all() == raw
    upgrade(engine)
    assert {view: _comments(engine, view) for view in views} == latest


def _comments(engine, view):
    """By name the comments of a view's columns, in their order; and the view's own."""
    with engine.connect() as connection:
        own = connection.execute(text(f"SELECT obj_description('{view}'::regclass)")).scalar_one()
    return {column["name"]: column["comment"] for column in inspect(engine).get_columns(view)} | {"": own}


def test_tests_of_earlier_versions_are_gone_and_the_rest_of_their_rows_stays(make_service):
    service = make_service()
    plant(service)
    engine = connect(service.settings)
    downgrade(engine, "0011")
    with engine.begin() as connection:
        heights = '[{"height": 0, "n_nodes": 4, "n_f1": 3, "n_q": 4}, {"height": 1, "n_nodes": 2, "n_f1": 1, "n_q": 2}]'
        connection.execute(text("UPDATE node_score SET p = 1e-5, q = 1e-4"))
        update = "UPDATE layer_score SET share_nodes_q = 0.98, share_nodes_f1 = 0.5, by_height = :heights"
        connection.execute(text(update), {"heights": heights})
        f1 = connection.execute(text("SELECT sum(f1), count(*) FROM node_score")).one()
    upgrade(engine)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(p), count(p_node), count(q_node) FROM node_score")).one() == (
            0,
            0,
            0,
        )
        assert connection.execute(text("SELECT sum(f1), count(*) FROM node_score")).one() == f1
        stored = connection.execute(
            text("SELECT share_nodes_q, share_nodes_f1, by_height FROM layer_score LIMIT 1")
        ).one()
        assert stored[:2] == (None, 0.5)
        assert stored[2] == [
            {"height": 0, "n_nodes": 4, "n_f1": 3, "n_q": None}, {"height": 1, "n_nodes": 2, "n_f1": 1, "n_q": None},
        ]  # fmt: skip


def test_figures_of_saes_without_held_out_rows_become_those_of_training_rows(make_service):
    engine = connect(make_service().settings)
    downgrade(engine, "0011")
    figures = "SELECT id, fvu, cosine, l0 FROM sae ORDER BY id"
    with engine.begin() as connection:
        for table in ("sae", "analysis"):  # their rows below refer to nothing
            for key in inspect(connection).get_foreign_keys(table):
                connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {key['name']}"))
        for number, n_holdout in ((1, 0), (2, 10)):
            values = {"id": number, "key": str(number), "metrics": f'{{"n_holdout_rows": {n_holdout}}}'}
            connection.execute(
                text(
                    "INSERT INTO sae (id, key, activation_set_id, job_id, kind, config, expansion, n_latents, seed,"
                    " n_steps, fvu, cosine, l0, dead_share, metrics, weights_sha256) OVERRIDING SYSTEM VALUE"
                    " VALUES (:id, :key, 1, 1, 'relu', '{}', 8, 8, 0, 1, 0.25, 0.5, 4, 0.125, :metrics, '')"
                ),
                values,
            )
            connection.execute(
                text(
                    "INSERT INTO analysis (id, key, sae_id, dataset_id, job_id, config, n_images, activations_sha256,"
                    " class_sums_sha256) OVERRIDING SYSTEM VALUE VALUES (:id, :key, :id, 1, 1, '{}', 1, '', '')"
                ),
                {"id": number, "key": str(number)},
            )
            connection.execute(
                text(
                    "INSERT INTO layer_score (analysis_id, basis, seed, n_latents, n_dead, dead_share, l0, n_nodes,"
                    " by_height, fvu, cosine) VALUES (:id, 'sae', 0, 8, 1, 0.125, 4, 1, '[]', 0.25, 0.5)"
                ),
                {"id": number},
            )
        before = connection.execute(text(figures)).all()
    upgrade(engine)
    with engine.connect() as connection:
        now = connection.execute(
            text("SELECT train_fvu, train_cosine, train_l0, train_dead_share FROM sae ORDER BY id")
        )
        assert now.all() == [(0.25, 0.5, 4.0, 0.125), (None, None, None, None)]
        assert connection.execute(text(figures)).all() == [(1, None, None, None), before[1]]
        of_layers = text("SELECT fvu, cosine FROM layer_score ORDER BY analysis_id")
        assert connection.execute(of_layers).all() == [(None, None), (0.25, 0.5)]
    downgrade(engine, "0011")
    with engine.connect() as connection:
        assert connection.execute(text(figures)).all() == before
        assert connection.execute(of_layers).all() == [(0.25, 0.5), (0.25, 0.5)]


def test_downgrade_takes_the_jobs_of_several_layers_with_their_sets(make_service):
    service = make_service()
    plant(service)
    engine = connect(service.settings)
    other: dict[str, Any] = {"layer": 0}
    intervene: dict[str, Any] = {"nodes": ["bird.n.01"]}
    plain: dict[str, Any] = {"layer": 2, "intervene": intervene}
    settings = {name: intervene | {"layers": name} for name in ("each", "together")}
    requests = {
        "joint": plain | {"others": [other], "intervene": settings["together"]},
        "failed": plain | {"others": [other], "intervene": settings["together"]},
        "alone": plain | {"others": [], "intervene": settings["each"]},
        "earlier": plain,
    }
    job = text(
        "INSERT INTO job (key, kind, title, request, state, queue, max_attempts)"
        " VALUES (:key, 'intervene', '', :request, 'succeeded', 'gpu', 3)"
    )
    made = text(
        "INSERT INTO intervention_set (key, analysis_id, with_analyses, job_id, config, n_images, n_train, start)"
        " SELECT key, 2, :others, id, '{}', 1, 1, 'images' FROM job WHERE key = :key"
    )
    with engine.begin() as connection:
        for key, request in requests.items():
            connection.execute(job, {"key": key, "request": json.dumps(request)})
        for key, others in (("joint", [1]), ("alone", None)):
            connection.execute(made, {"key": key, "others": others})
    downgrade(engine, "0037")
    with engine.connect() as connection:
        jobs = connection.execute(text("SELECT key, request FROM job WHERE kind = 'intervene'")).all()
        sets = connection.execute(text("SELECT key FROM intervention_set")).all()
    assert (dict(map(tuple, jobs)), sets) == ({"alone": plain, "earlier": plain}, [("alone",)])
    assert upgrade(engine).up_to_date


def test_node_score_is_partitioned_by_analysis(service):
    with service.sessions() as session:
        how = session.execute(text("SELECT pg_get_partkeydef('node_score'::regclass)")).scalar_one()
    assert how == "LIST (analysis_id)"


def test_two_upgrades_at_once_take_turns(make_service):
    settings = make_service(migrate=False).settings
    with ThreadPoolExecutor(2) as pool:
        versions = list(pool.map(lambda _: upgrade(connect(settings)), range(2)))
    assert all(version.up_to_date for version in versions)
