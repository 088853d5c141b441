"""Every query of docs/sql.md, and the questions behind `hsae-admin results`, on a study as large as the goals name.

Fills a private Postgres (the one that `hsae-admin up` starts, with its settings) with a synthetic study: by default 12
layers, 12,288 latents each and the columns of all controls, 1,000 classes of WordNet. Then times every query,
planning and fetching included, one after the other in rounds, and at last the loading of 1,000,000 rows of node_score
into a partition of their own.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.large_study.synthetic_columns import random_pairs
from benchmarks.large_study.synthetic_study import StudySize, fill_study
from benchmarks.large_study.synthetic_taxonomy import Nodes
from benchmarks.measure import Row, at_most, machine, print_header, print_report, versions
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import connect, session_factory, transaction
from hsae.catalog.findings.edges import edge_rows
from hsae.catalog.findings.head_to_head import common_dataset, node_pairs
from hsae.catalog.findings.levels import level_rows
from hsae.catalog.findings.scores import latent_rows, layer_rows, node_rows
from hsae.catalog.findings.study_intervals import comparison_differences, comparison_scores, find_comparison
from hsae.catalog.findings.tree import best_latents, find_tree, tree_nodes
from hsae.catalog.queries.known_names import find_nodes, require_known
from hsae.catalog.queries.score_filter import AnalysisFilter, EdgeFilter, LatentFilter
from hsae.catalog.server.bulk_copy import load_node_scores
from hsae.catalog.server.migrate import upgrade
from hsae.embedded import Stack
from hsae.settings import Settings

GOAL_MS = 200.0
GOAL_LOAD_SECONDS = 15.0
SIZES = {
    "small": (StudySize(n_classes=60, n_layers=2, n_latents=256, d_model=64), 20_000),
    "full": (StudySize(), 1_000_000),
}


def cookbook() -> dict[str, str]:
    """The queries of docs/sql.md by their headings."""
    path = Path(__file__).parents[2] / "docs" / "sql.md"
    found = re.findall(r"^###? ([^\n]+)\n(?:(?!^##).)*?^```sql\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    return dict(found)


def commands(sessions: sessionmaker[Session]) -> dict[str, Callable[[], list[object]]]:
    """What some calls of `hsae-admin results` ask."""

    def tree() -> list[object]:
        with transaction(sessions) as session:
            found = find_tree(session, find_nodes(session, ["animal.n.01"]))
            rows = tree_nodes(session, dataset_id=found["dataset_id"], root=found["synset_id"], depth=None)
            nodes = tuple(row["synset_id"] for row in rows)
            wanted = LatentFilter(basis="sae", dataset=found["dataset"], nodes=nodes)
            return list(best_latents(session, wanted).values())

    def compare() -> list[object]:
        with transaction(sessions) as session:
            require_known(session, AnalysisFilter(analysis_ids=(1, 2)))
            dataset = common_dataset(session, [1, 2])
            return list(node_pairs(session, [1], [2], dataset_id=dataset, basis="sae"))

    def study() -> list[object]:
        with transaction(sessions) as session:
            found = find_comparison(session, 1)["id"]
            return [*comparison_scores(session, found), *comparison_differences(session, found)]

    def asked(ask: Callable[[Session], list[dict[str, object]]]) -> Callable[[], list[object]]:
        def run() -> list[object]:
            with transaction(sessions) as session:
                return list(ask(session))

        return run

    def ids(session: Session, name: str) -> tuple[int, ...]:
        return tuple(find_nodes(session, [name]))

    def nodes(session: Session, **wanted: Any) -> list[dict[str, object]]:
        return node_rows(session, LatentFilter(basis="sae", min_f1=0.0, limit=30, **wanted))

    def latents(session: Session, **wanted: Any) -> list[dict[str, object]]:
        return latent_rows(session, LatentFilter(basis="sae", min_f1=0.0, limit=30, **wanted))

    def edges(session: Session, *, basis: str = "sae", **wanted: Any) -> list[dict[str, object]]:
        return edge_rows(session, EdgeFilter(basis=basis, limit=30, **wanted))

    return {
        "results layers": asked(lambda s: layer_rows(s, AnalysisFilter())),
        "results nodes --node vehicle.n.01": asked(lambda s: nodes(s, nodes=ids(s, "vehicle.n.01"))),
        "results nodes --under animal.n.01": asked(lambda s: nodes(s, under=ids(s, "animal.n.01"))),
        "results nodes": asked(nodes),
        "results latents": asked(latents),
        "results latents --under dog.n.01 --q 0.01": asked(lambda s: latents(s, under=ids(s, "dog.n.01"), max_q=0.01)),
        "results latents --under animal.n.01": asked(lambda s: latents(s, under=ids(s, "animal.n.01"))),
        "results edges": asked(edges),
        "results edges --basis shuffled_taxonomy": asked(lambda s: edges(s, basis="shuffled_taxonomy")),
        "results edges --analysis 1 --source taxonomy": asked(lambda s: edges(s, analysis_ids=(1,), source="taxonomy")),
        "results edges --parent 7": asked(lambda s: edges(s, parent=7)),
        "results edges --child 7": asked(lambda s: edges(s, child=7)),
        "results edges --node dog.n.01": asked(lambda s: edges(s, nodes=ids(s, "dog.n.01"))),
        "results edges --under animal.n.01 --layer 5": asked(lambda s: edges(s, under=ids(s, "animal.n.01"), layer=5)),
        "results edges --under entity.n.01": asked(lambda s: edges(s, under=ids(s, "entity.n.01"))),
        "results edges --min-f1 0.5": asked(lambda s: edges(s, min_f1=0.5)),
        "results edges --min-f1 0.9": asked(lambda s: edges(s, min_f1=0.9)),
        "results levels": asked(lambda s: level_rows(s, AnalysisFilter())),
        "results tree animal.n.01": tree,
        "results compare 1 2": compare,
        "results study 1": study,
    }


def timed(engine: Engine, sessions: sessionmaker[Session], n_rounds: int) -> list[Row]:
    """Median milliseconds of every question; each round asks all of them in turn, the first one is not counted."""
    asked: dict[str, Callable[[], list[object]]] = {}

    def of_cookbook(query: str) -> Callable[[], list[object]]:
        def run() -> list[object]:
            with engine.connect() as connection:
                return list(connection.exec_driver_sql(query, execution_options={"no_parameters": True}))

        return run

    asked |= {heading: of_cookbook(query) for heading, query in cookbook().items()}
    asked |= commands(sessions)
    milliseconds: dict[str, list[float]] = {name: [] for name in asked}
    n_rows = {}
    for _ in range(n_rounds + 1):
        for name, run in asked.items():
            start = time.perf_counter()
            n_rows[name] = len(run())
            milliseconds[name].append((time.perf_counter() - start) * 1000)
    rows = []
    for name, (first, *rest) in milliseconds.items():
        spread = f"first {first:.1f}, worst {max(rest):.1f}"
        print(f"  {statistics.median(rest):7.1f} ms ({spread}), {n_rows[name]} rows: {name}")
        rows.append(at_most(name, statistics.median(rest), "ms", GOAL_MS))
    return rows


def load(sessions: sessionmaker[Session], nodes: Nodes, n_rows: int) -> Row:
    """Seconds from rows in memory to a committed partition with all its indexes."""
    analysis = 10**6
    rows = random_pairs(analysis, n_rows, nodes, np.random.default_rng(2))
    start = time.perf_counter()
    with transaction(sessions) as session:
        load_node_scores(session, analysis, rows)
    seconds = time.perf_counter() - start
    with transaction(sessions) as session:
        stored = session.execute(text("SELECT count(*) FROM node_score WHERE analysis_id = :id"), {"id": analysis})
        assert stored.scalar_one() == n_rows
    return at_most(f"loading {n_rows:,} rows of node_score", seconds, "s", GOAL_LOAD_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--both-kinds", action="store_true", help="ReLU and TopK SAEs: twice as many analyses")
    options = parser.parse_args()
    size, n_rows = SIZES[options.size]
    if options.both_kinds:
        size = replace(size, sae_kinds=("relu", "topk"))
    where = machine()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        settings = Settings(home=Path(folder), database_url=SecretStr(stack.info().database_url))
        engine = connect(settings)
        sessions = session_factory(engine)
        upgrade(engine)
        with engine.connect() as connection:
            what = versions() | {"postgres": connection.exec_driver_sql("SHOW server_version").scalar_one()}
        print_header(f"questions in SQL, {options.size}", where, what)
        start = time.perf_counter()
        nodes = fill_study(sessions, size)
        print(f"  filled in {time.perf_counter() - start:.0f} s, {len(nodes.ids)} nodes")
        # What autovacuum does within its first minutes.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        with engine.connect() as connection:
            counted = {
                table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()  # noqa: S608
                for table in ("analysis", "latent", "latent_place", "latent_edge", "latent_family", "node_score")
            }
            counted["size"] = connection.exec_driver_sql(
                "SELECT pg_size_pretty(pg_database_size(current_database()))"
            ).scalar_one()
        print(f"  {', '.join(f'{name} {value}' for name, value in counted.items())}")
        rows = timed(engine, sessions, options.rounds)
        rows.append(load(sessions, nodes, n_rows))
        engine.dispose()
    print_report(
        rows, where, what,
        ["a cold disk; several readers at once; a server on another machine; scores of a real study"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
