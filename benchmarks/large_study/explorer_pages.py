"""Every page of the explorer on a study as large as the goals name.

Fills a private Postgres with the synthetic study of `sql_questions.py` (12 layers, 12,288 latents each, all controls),
and a private S3 server with the listing and with the activations of the last layer. Then serves the explorer on
loopback and asks it for one page after the other, in rounds; the time is from the request to the last byte, thumbnails
and scripts not included, which are asked for by themselves.
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
from benchmarks.large_study.synthetic_study import StudySize, fill_study
from benchmarks.large_study.synthetic_taxonomy import Nodes
from benchmarks.measure import Row, at_most, machine, print_header, print_report, versions
from PIL import Image
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import connect, session_factory, transaction
from hsae.catalog.server.migrate import upgrade
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


def put_objects(sessions: sessionmaker[Session], store: ObjectStore, nodes: Nodes, size: StudySize, root: Path) -> None:
    """The listing, its images (the same few many times), and the activations of the last analysis."""
    rng = np.random.default_rng(3)
    n_files = 32
    for number in range(n_files):
        pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((480, 360)).save(root / f"{number}.jpg")
    wnids = [nodes.taxonomy.synsets[node].id for node in nodes.taxonomy.classes.tolist()]
    listing = pa.table(
        {
            "path": [f"{image % n_files}.jpg" for image in range(nodes.n_total)],
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


def pages(sessions: sessionmaker[Session]) -> dict[str, str]:
    """What is asked for, by name."""
    with transaction(sessions) as session:
        last = session.execute(text("SELECT max(id) FROM analysis")).scalar_one()
        node = session.execute(text("SELECT id FROM synset WHERE name = 'animal.n.01'")).scalar_one()
        latent = session.execute(
            text("SELECT latent FROM latent WHERE analysis_id = :id AND basis = 'sae' AND NOT is_dead LIMIT 1"),
            {"id": last},
        ).scalar_one()
    return {
        "studies": "/",
        "study": "/study/1",
        "tree": "/tree",
        "tree, everything of six levels": "/tree?depth=6",
        "tree as a picture": "/tree?view=picture",
        "search": "/tree?q=dog",
        "node": f"/node/{node}",
        "latents": "/latents",
        "latents under a node": "/latents?under=animal.n.01",
        "latents by words": "/latents?q=dog",
        "latents by five numbers": "/latents?min_f1_adjusted=0.1&min_coherence=0.5&max_q=0.5&max_density=0.05"
        "&min_stability=0.1",
        "latents of a baseline": "/latents?basis=exemplar",
        "latents of all layers": "/latents?layer=all",
        "latents of all layers, a later page": f"/latents?layer=all&after=0.3_{last}_7",
        "latents of all layers by coherence": "/latents?layer=all&sort=coherence",
        "latents of all layers by stability": "/latents?layer=all&sort=stability",
        "latents of all layers under a node": "/latents?layer=all&under=animal.n.01",
        "latent": f"/latent/{last}/sae/{latent}",
        "column of a baseline": f"/latent/{last}/pca/7",
        "image": "/image/1/777",
        "pairs": "/pairs",
        "pairs of all layers": "/pairs?layer=all",
        "pairs under a node": "/pairs?layer=all&under=animal.n.01",
        "pairs of a shuffled tree": "/pairs?basis=shuffled_taxonomy",
        "encode, its form": "/encode",
        "thumbnail": "/thumbnail/1/777?side=128",
        "healthz": "/healthz",
    }


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
    """Median milliseconds of every page; each round asks for all of them, the first one is not counted."""
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
        spread = f"first {first:.1f}, worst {max(rest):.1f}"
        print(f"  {statistics.median(rest):7.1f} ms ({spread}), {n_bytes[name]} bytes: {name}")
        rows.append(at_most(name, statistics.median(rest), "ms", GOAL_MS))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size = SIZES[options.size]
    where = machine()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "home") as stack:
        settings = Settings(home=Path(folder) / "home", **asdict(stack.info()))
        engine = connect(settings)
        sessions = session_factory(engine)
        upgrade(engine)
        with engine.connect() as connection:
            what = versions() | {"postgres": connection.exec_driver_sql("SHOW server_version").scalar_one()}
        print_header(f"pages of the explorer, {options.size}", where, what)
        start = time.perf_counter()
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
        with serving(settings, Path(folder) / "cache") as address:
            rows = timed(address, pages(sessions), options.rounds)
        engine.dispose()
    print_report(
        rows, where, what,
        ["the browser; several readers at once; encoding an upload; a cold disk; a server on another machine"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
