"""Dashboard, alert rules and scrape configuration fit the metrics that are exported and the catalog that is there."""

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr
from sqlalchemy import text

from hsae.catalog import connect, transaction
from hsae.catalog.server.reader_role import admit
from hsae.monitoring import MetricsServer
from hsae.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCS = Path(__file__).parents[2] / "docs" / "monitoring.md"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "hsae.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
TARGETS = [(panel, target) for panel in DASHBOARD["panels"] for target in panel["targets"]]
EXPRESSIONS = [target["expr"] for _, target in TARGETS if "expr" in target] + [rule["expr"] for rule in RULES]
QUERIES = {panel["title"]: target["rawSql"] for panel, target in TARGETS if "rawSql" in target}
NOT_OURS = {"up"}  # Prometheus' own


@pytest.fixture
def exported(service, scrape) -> dict[str, set[str]]:
    """The labels of every metric of a service with a running job."""
    with transaction(service.sessions) as session:
        session.execute(
            text(
                "INSERT INTO job (key, kind, title, request, state, queue, max_attempts, owner, gpu_memory_bytes)"
                " VALUES ('k', 'train', 't', '{}', 'running', 'gpu', 3, 'box:1:a', 1)"
            )
        )
    found: dict[str, set[str]] = {}
    with MetricsServer(service.settings, "127.0.0.1", 0) as server:
        while "hsae_workers" not in found:
            for name, labels in scrape(server.port):
                found.setdefault(name, set()).update(key for key, _ in labels)
    return found


def _metrics_in(expression: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on)\s*\([^)]*\)", " ", expression)
    functions = set(re.findall(r"([a-z_]+)\s*\(", bare))
    return {word for word in re.findall(r"[a-z_][a-z0-9_]*", bare) if word not in functions} - {"and", "or", "unless"}


def test_dashboards_and_rules_name_exported_metrics(exported):
    for expression in EXPRESSIONS:
        for name in _metrics_in(expression) - NOT_OURS:
            assert name in exported, f"{name} of {expression}"


def test_dashboards_and_rules_name_exported_labels(exported):
    for expression in EXPRESSIONS:
        names = _metrics_in(expression)
        if names <= NOT_OURS:
            continue
        known = set().union(*(exported[name] for name in names - NOT_OURS))
        used = set(re.findall(r"([a-z_]+)\s*=~?\"", expression))
        for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
            used |= {label.strip() for label in group.split(",")}
        assert used <= known, expression


def test_every_metric_is_documented(exported):
    documented = DOCS.read_text()
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported}
    for name in families:
        assert f"`{name}" in documented, name
    for rule in RULES:
        assert f"`{rule['alert']}`" in documented, rule["alert"]


@pytest.fixture
def reader(service) -> Settings:
    """The service's settings as a dashboard has them: with the read-only role."""
    settings = service.settings.model_copy(update={"reader_password": SecretStr("a-password-of-dashboards")})
    url = admit(service.sessions.kw["bind"], settings).set(drivername="postgresql")
    return settings.model_copy(update={"database_url": SecretStr(url.render_as_string(hide_password=False))})


def test_queries_of_panels_run_for_the_reader(reader):
    engine = connect(reader)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_user")).scalar_one() == "hsae_reader"
        for query in QUERIES.values():
            connection.execute(text(query.replace(":", r"\:")))
    engine.dispose()


def test_the_exporter_needs_no_more_than_the_reader(reader, scrape):
    with MetricsServer(reader, "127.0.0.1", 0) as server:
        assert scrape(server.port)["hsae_up", frozenset({("part", "database")})] == 1


def test_panels_are_whole_and_do_not_overlap():
    cells = set()
    ids = set()
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert panel["targets"]
        ids.add(panel["id"])
        where = panel["gridPos"]
        own = {
            (x, y)
            for x in range(where["x"], where["x"] + where["w"])
            for y in range(where["y"], where["y"] + where["h"])
        }
        assert where["x"] + where["w"] <= 24
        assert not own & cells, panel["title"]
        cells |= own
    assert len(ids) == len(DASHBOARD["panels"])


def test_panels_use_the_provisioned_data_sources():
    provisioned = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "hsae.yml").read_text())
    sources = {source["uid"]: source["type"] for source in provisioned["datasources"]}
    for panel, target in TARGETS:
        for source in (panel["datasource"], target["datasource"]):
            assert sources[source["uid"]] == source["type"]
    (postgres,) = [source for source in provisioned["datasources"] if source["uid"] == "hsae-postgres"]
    assert postgres["user"] == "hsae_reader"
    assert postgres["secureJsonData"]["password"] == "${HSAE_READER_PASSWORD}"


def test_prometheus_scrapes_the_exporter_and_loads_the_rules():
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets == {"hsae": ["metrics:9808"], "flower": ["flower:5555"]}
    for name in config["rule_files"]:
        assert (DEPLOY / "prometheus" / name).is_file()
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
