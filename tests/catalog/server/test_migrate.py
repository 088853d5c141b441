"""The schema that migrations make is the one that the models say, with a comment on everything."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from hsae.catalog import Base, connect
from hsae.catalog.server.migrate import downgrade, upgrade
from hsae.catalog.server.schema_version import require_current_schema, schema_version
from hsae.errors import UserError

VIEWS = {
    "analysis_input", "latent_label", "node_best_latent", "node_control", "layer_progress", "latent_edge_label",
}  # fmt: skip
TABLES = {
    "job", "job_event", "model", "study", "dataset", "dataset_class", "activation_set", "activation_shard", "sae",
    "analysis", "latent", "latent_place", "latent_edge", "latent_family", "node_score", "layer_score", "level_score",
    "comparison", "comparison_score", "comparison_difference", "synset", "hypernym", "hypernym_closure",
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

    def columns():
        inspector = inspect(engine)
        return {
            view: [(column["name"], str(column["type"])) for column in inspector.get_columns(view)]
            for view in inspector.get_view_names()
        }

    now = columns()
    downgrade(engine, "0010")
    before = columns()
    assert before.keys() == VIEWS - {"analysis_input", "node_control"}
    assert before == {view: now[view] for view in before}
    upgrade(engine)
    assert columns() == now


def test_node_score_is_partitioned_by_analysis(service):
    with service.sessions() as session:
        how = session.execute(text("SELECT pg_get_partkeydef('node_score'::regclass)")).scalar_one()
    assert how == "LIST (analysis_id)"


def test_two_upgrades_at_once_take_turns(make_service):
    settings = make_service(migrate=False).settings
    with ThreadPoolExecutor(2) as pool:
        versions = list(pool.map(lambda _: upgrade(connect(settings)), range(2)))
    assert all(version.up_to_date for version in versions)
