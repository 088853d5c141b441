"""Every page of the explorer on a study as large as the goals name, or on the demo's own.

Fills a private Postgres with the synthetic study of `sql_questions.py` (12 layers, 12,288 latents each, all controls,
names and effects), and a private S3 server with the listing, the activations of the last layer and some maps; with
`--demo` it takes the study of a home that `hsae-admin demo` made. Then serves the explorer on loopback and asks it for
one page after the other, in rounds; the time is from the request to the last byte, thumbnails and scripts not included,
which are asked for by themselves. The first round warms caches: its time stands beside the median and the worst of the
others.
"""

import argparse
import hashlib
import io
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from benchmarks.large_study.explorer_addresses import pages
from benchmarks.large_study.synthetic_measured import enter_measured
from benchmarks.large_study.synthetic_study import StudySize, fill_study
from benchmarks.large_study.synthetic_taxonomy import Nodes
from benchmarks.measure import Row, at_most, machine, print_header, print_report, versions
from PIL import Image
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import connect, session_factory, transaction
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.catalog.queries.studies import latest_scored_study
from hsae.catalog.server.migrate import upgrade
from hsae.cli.demo import demo_home
from hsae.embedded import Stack
from hsae.explorer.serving import Cache, Explorer
from hsae.pipeline.stages.latent_activations import LatentActivations, put_latent_activations
from hsae.settings import Settings
from hsae.store.keys import listing_key
from hsae.store.objects import ObjectStore

GOAL_MS = 300.0
SIZES = {
    "small": StudySize(n_classes=60, n_layers=2, n_latents=256, d_model=64),
    "full": StudySize(),
}
_L0 = 64
_N_FILES = 32


def put_objects(sessions: sessionmaker[Session], store: ObjectStore, nodes: Nodes, size: StudySize, root: Path) -> None:
    """The listing, its images (the same few many times), and the activations and maps of the last analysis."""
    rng = np.random.default_rng(3)
    for number in range(_N_FILES):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((480, 360)).save(root / f"{number}.jpg")
    wnids = [nodes.taxonomy.synsets[node].id for node in nodes.taxonomy.classes.tolist()]
    listing = pa.table(
        {
            "path": [f"{image % _N_FILES}.jpg" for image in range(nodes.n_total)],
            "class_id": [wnids[image % len(wnids)] for image in range(nodes.n_total)],
        }
    )
    file = io.BytesIO()
    pq.write_table(listing, file)
    sha256 = hashlib.sha256(file.getvalue()).hexdigest()
    store.put(listing_key("0", sha256), file.getvalue())
    density = _L0 / size.n_latents
    z = sp.random_array((nodes.n_total, size.n_latents), density=density, dtype=np.float32, rng=rng).tocsr()
    latents = LatentActivations(z, np.arange(nodes.n_total, dtype=np.int32))
    with transaction(sessions) as session:
        last = session.execute(text("SELECT id, key FROM analysis ORDER BY id DESC LIMIT 1")).one()
        stored = put_latent_activations(store, last.key, latents)
        session.execute(
            text("UPDATE analysis SET activations_sha256 = :sha256 WHERE id = :id"),
            {"sha256": stored.sha256, "id": last.id},
        )
        session.execute(
            text("UPDATE dataset SET listing_sha256 = :sha256, root = :root"), {"sha256": sha256, "root": str(root)}
        )
        enter_measured(session, store, last.id, _N_FILES)


@contextmanager
def serving(settings: Settings, cache: Path) -> Iterator[str]:
    """The explorer on a free port of loopback, in a thread; its address."""
    explorer = Explorer(settings, Cache(cache), host="127.0.0.1", port=0)
    thread = Thread(target=explorer.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{explorer.port}"
    finally:
        explorer.stop()
        thread.join()


def timed(address: str, asked: dict[str, str], n_rounds: int) -> list[Row]:
    """Milliseconds of every page: the median of the rounds, the worst of them, and the first time, before them."""
    milliseconds: dict[str, list[float]] = {name: [] for name in asked}
    n_bytes = {}
    for _ in range(n_rounds + 1):
        for name, path in asked.items():
            start = time.perf_counter()
            with urllib.request.urlopen(address + path, timeout=60) as answer:  # noqa: S310 -- our own server
                n_bytes[name] = len(answer.read())
            milliseconds[name].append((time.perf_counter() - start) * 1000)
    rows = []
    for name, (first, *rest) in milliseconds.items():
        rows += [
            at_most(name, statistics.median(rest), "ms", GOAL_MS),
            Row(f"{name}, first", first, "ms"),
            Row(f"{name}, worst", max(rest), "ms"),
        ]
        print(f"  {n_bytes[name]} bytes: {name}")
    return rows


@contextmanager
def synthetic(size: StudySize) -> Iterator[Settings]:
    """A private stack with a synthetic study, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "home") as stack:
        settings = Settings(home=Path(folder) / "home", **asdict(stack.info()))
        start = time.perf_counter()
        engine = connect(settings)
        sessions = session_factory(engine)
        upgrade(engine)
        nodes = fill_study(sessions, size)
        store = ObjectStore.from_settings(settings)
        store.ensure_bucket()
        root = Path(folder) / "images"
        root.mkdir()
        put_objects(sessions, store, nodes, size, root)
        print(f"  filled in {time.perf_counter() - start:.0f} s, {len(nodes.ids)} nodes")
        # What autovacuum does within its first minutes.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        engine.dispose()
        yield settings


@contextmanager
def of_demo(home: Path) -> Iterator[Settings]:
    """The private stack in a home that the demo made: as it runs, or started for the block."""
    stack = Stack(home)
    before = stack.status()
    if all(server.port is None for server in before.servers):
        raise SystemExit(f"{home} has no stack: make the demo with `hsae-admin demo --home {home} --stop`")
    info = stack.start()
    try:
        yield Settings(home=home, **asdict(info))
    finally:
        if not before.running:
            stack.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--size", choices=SIZES, default="full", help="of the synthetic study (default: %(default)s)")
    which.add_argument("--demo", action="store_true", help="time the latest study of a demo instead")
    parser.add_argument("--home", type=Path, help=f"of the demo (default: {demo_home()})")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.home is not None and not options.demo:
        parser.error("--home is that of a demo: give --demo with it")
    home = options.home or demo_home()
    where = machine()
    title = "pages of the explorer"
    print(f"{title}, {'the demo' if options.demo else options.size}")
    with (
        of_demo(home) if options.demo else synthetic(SIZES[options.size]) as settings,
        tempfile.TemporaryDirectory() as cache,
    ):
        engine = connect(settings)
        with engine.connect() as connection:
            what = versions() | {"postgres": connection.exec_driver_sql("SHOW server_version").scalar_one()}
        sessions = session_factory(engine)
        with transaction(sessions) as session:
            study = latest_scored_study(session, AnalysisFilter())
        if study is None:
            raise SystemExit(f"{home} has no study with scores: run `hsae-admin demo --home {home}`")
        print_header(f"{title}, study {study['id']} ({study['name']})", where, what)
        asked, lacking = pages(sessions, study["id"])
        engine.dispose()
        with serving(settings, Path(cache)) as address:
            rows = timed(address, asked, options.rounds)
    print_report(
        rows, where, what,
        [
            *lacking,
            "the browser; several readers at once; encoding or editing an upload; a cold disk; a server on another"
            " machine",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
