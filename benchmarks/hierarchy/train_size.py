"""One SAE at the size of ImageNet's training set, streamed from an object store: every score of every pair.

Synthetic activations of 1,281,167 images, 64 of 12,288 latents on each, are written as shards into a private S3 server
and read back through the store's client, which checks every byte. Timed are the ranks and class sums, every pair's
scores with z and exact p, and LCH and coverage of every latent; the same on 1/8, 1/4 and 1/2 of the shards shows how
the time grows with the non-zeros.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
import scipy.sparse as sp
import torch
from benchmarks.hierarchy.leaves import wordnet_leaves
from benchmarks.measure import Row, add_device, at_most, machine, print_header, print_report, versions

from hsae.embedded import Stack
from hsae.hierarchy.scores.associations import associated_classes
from hsae.hierarchy.scores.latent_scores import latent_places
from hsae.hierarchy.scores.node_scores import iter_node_scores
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.ranks import rank_activations
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.store.objects import ObjectStore, StoredObject
from hsae.store.tensors import get_tensors, put_tensors
from hsae.taxonomy import InducedTaxonomy

PREFERRED_SHARE = 0.5
"""How often an image's latent is one that prefers a node above the image's class."""
DEAD_SHARE = 0.05
MAX_SECONDS = {"cpu": 120.0, "cuda": 20.0}
MAX_GIB = 8.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is scored."""

    n_images: int
    n_latents: int
    n_classes: int
    l0: int
    n_shards: int


SIZES = {
    "small": Size(4_000, 256, 100, 16, 16),
    "full": Size(1_281_167, 12_288, 1_000, 64, 64),
}


@dataclass(slots=True)
class Stored:
    """The shards in the store; `seconds_reading` adds up what fetching, checking and unpacking them took."""

    store: ObjectStore
    objects: list[StoredObject]
    n_latents: int
    seconds_reading: float = field(default=0.0)

    def read(self, n_shards: int) -> Iterator["sp.csr_array[np.float32]"]:
        """The first shards, one after the other."""
        self.seconds_reading = 0.0
        for stored in self.objects[:n_shards]:
            start = time.perf_counter()
            tensors, _ = get_tensors(self.store, stored.key, sha256=stored.sha256)
            arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
            shape = (len(arrays["indptr"]) - 1, self.n_latents)
            shard = sp.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
            self.seconds_reading += time.perf_counter() - start
            yield shard


def write_shards(size: Size, taxonomy: InducedTaxonomy, labels: np.ndarray, store: ObjectStore) -> list[StoredObject]:
    """Synthetic activations, shard by shard.

    The latents are cut into `l0` groups and on an image one of each fires: by halves any of the group, or the group's
    latent that prefers a node above the image's class (if the group has one), and then more strongly.
    """
    rng = np.random.default_rng(1)
    width = size.n_latents // size.l0
    is_under = taxonomy.closure.toarray() > 0
    prefers = rng.integers(0, is_under.shape[1], size.n_latents)
    is_dead = rng.random(size.n_latents) < DEAD_SHARE
    answers = is_under[:, prefers].reshape(-1, size.l0, width)
    preferred = np.where(answers.any(axis=2), answers.argmax(axis=2), -1)  # [n_classes, l0]
    objects = []
    for shard, part in enumerate(np.array_split(labels, size.n_shards)):
        latent = rng.integers(0, width, (len(part), size.l0), dtype=np.int32)
        chosen = preferred[part]
        is_preferred = (rng.random(latent.shape, dtype=np.float32) < PREFERRED_SHARE) & (chosen >= 0)
        latent = np.asarray(np.where(is_preferred, chosen, latent) + np.arange(size.l0) * width)
        value: np.ndarray = rng.standard_exponential(latent.shape, dtype=np.float32) + is_preferred.astype(np.float32)
        value[is_dead[latent]] = 0.0
        fires = value > 0
        indptr = np.concatenate(([0], np.cumsum(fires.sum(axis=1))))
        arrays = {"indptr": indptr, "indices": latent[fires].astype(np.int32), "data": value[fires]}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        objects.append(put_tensors(store, f"benchmark/shard-{shard:05d}.safetensors", tensors, {}))
    return objects


def every_score(
    stored: Stored, n_shards: int, labels: np.ndarray, taxonomy: InducedTaxonomy, device: str
) -> tuple[int, dict[str, float]]:
    """Score the first shards; the number of non-zeros, and the seconds of each part."""
    seconds = {}
    start = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[name] = now - start
        start = now

    ranked = rank_activations(stored.read(n_shards), device=device)
    lap("ranks")
    seconds["reading"] = stored.seconds_reading
    seconds["ranks"] -= stored.seconds_reading
    labels = labels[: ranked.n_images]
    sums = sum_by_class(ranked, labels, len(taxonomy.classes), device=device)
    lap("class sums")
    n_found = 0
    for _, scores in iter_node_scores(sums, taxonomy.closure, device=device):
        n_found += int((scores.p < 1e-9).sum())
    lap("every pair's scores")
    places = latent_places(associated_classes("topk", ranked, sums, labels), taxonomy)
    lap("LCH and coverage")
    n_nonzero = len(ranked.activation)
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    print(
        f"  {n_nonzero:,} non-zeros of {ranked.n_images:,} images: {sum(seconds.values()):.1f} s ({parts}); "
        f"{n_found:,} pairs with p < 1e-9, {int((places.lch >= 0).sum()):,} latents placed"
    )
    return n_nonzero, seconds


def main() -> None:
    keep_freed_memory()  # as in a job, and for every contender
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full", help="images x latents (default: %(default)s)")
    parser.add_argument("--home", type=Path, help="folder of the private servers (default: a temporary one)")
    add_device(parser)
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    where, what = machine(), versions()
    taxonomy = wordnet_leaves(size.n_classes)
    labels = np.random.default_rng(0).permutation(np.arange(size.n_images) % size.n_classes)
    n_nodes = len(taxonomy.synsets)
    title = (
        f"one SAE: {size.n_images:,} images x {size.n_latents:,} latents x {n_nodes:,} nodes of {size.n_classes:,} "
        f"classes, L0 {size.l0}, {size.n_shards} shards"
    )
    print_header(title, where, what)
    with (
        tempfile.TemporaryDirectory(prefix="hsae-train-size-", ignore_cleanup_errors=True) as folder,
        Stack(arguments.home or Path(folder)) as stack,
    ):
        info = stack.info()
        store = ObjectStore(info.s3_endpoint, info.s3_access_key, info.s3_secret_key, info.s3_bucket)
        store.ensure_bucket()
        start = time.perf_counter()
        stored = Stored(store, write_shards(size, taxonomy, labels, store), size.n_latents)
        n_bytes = sum(stored_object.n_bytes for stored_object in stored.objects)
        print(f"  {n_bytes / 1e6:,.0f} MB made and written in {time.perf_counter() - start:.1f} s")
        before = _peak_gib()
        runs = [
            every_score(stored, size.n_shards // share, labels, taxonomy, arguments.device) for share in (8, 4, 2, 1)
        ]
        peak = _peak_gib()
        store.delete_prefix("benchmark/")
    n_nonzero, seconds = runs[-1]
    of_share = {share: run[1] for share, run in zip((1, 2, 4, 8), runs, strict=True)}
    totals = {share: sum(parts.values()) for share, parts in of_share.items()}
    of_nonzeros = {  # reading waits for the store, and there are as many pairs however many images
        share: sum(parts[name] for name in ("ranks", "class sums", "LCH and coverage"))
        for share, parts in of_share.items()
    }
    print(f"  peak memory {before:.2f} GiB before, {peak:.2f} GiB after")
    print_report(
        [
            Row("non-zeros", n_nonzero, ""),
            at_most("everything", totals[8], "s", MAX_SECONDS[arguments.device]),
            *(Row(f"of it: {name}", value, "s") for name, value in seconds.items()),
            Row("scoring alone, without reading", totals[8] - seconds["reading"], "s"),
            *(Row(f"everything, {share}/8 of the non-zeros", totals[share], "s") for share in (1, 2, 4)),
            *(
                Row(f"ranks, class sums, LCH and coverage, {share}/8 of the non-zeros", of_nonzeros[share], "s")
                for share in (1, 2, 4, 8)
            ),
            at_most("peak memory of the process", peak, "GiB", MAX_GIB),
        ],
        where,
        what,
        [
            "average precision, best F1 and monosemanticity (ranking_scores.py), the controls, loading into Postgres",
            "a store on another machine, activations of a trained SAE (these are synthetic)",
            *(["CUDA"] if arguments.device == "cpu" else []),
        ],
    )


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
