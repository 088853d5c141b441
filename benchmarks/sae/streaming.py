"""Trainings whose rows are streamed from an S3 server, beside the same ones in memory; and a sweep over one pass.

An S3 server of its own (a private stack) holds an activation set in hsae's format. Vectors per second are those after
the first steps. Peak memory is the process's after the streamed training, which comes first. Reads are counted at the
store, those for windows and those for the samples that every SAE reads before and after its training.
"""

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import torch
from benchmarks.measure import Row, add_device, at_least, at_most, machine, print_header, print_report, versions

from hsae.embedded import Stack
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.pipeline.inputs.streamed_set import SetShards
from hsae.sae.config import SaeConfig
from hsae.sae.rows.shared_pass import Seat, SharedPass
from hsae.sae.rows.source import TrainingRows
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.training.trainer import StepReport, train
from hsae.store.activations import ActivationManifest, ActivationRows, ShardEntry, write_shard
from hsae.store.keys import shard_key
from hsae.store.objects import ObjectStore

KEY = "0" * 64
N_SAES = 8
_SKIPPED_STEPS = 4


@dataclass(frozen=True, slots=True)
class Size:
    """What is trained: `n_shards` of `shard_rows` rows, windows of `window_shards`, one pass over all of them.

    `goal` is in vectors a second in memory.
    """

    d_model: int
    expansion: int
    n_shards: int
    shard_rows: int
    window_shards: int
    batch_size: int
    goal: float | None = None

    @property
    def window_bytes(self) -> int:
        return self.window_shards * self.shard_rows * self.d_model * 4

    @property
    def weight_bytes(self) -> int:
        """Of encoder and decoder; gradients and Adam's moments, three times as much, count as the rest."""
        return 2 * self.expansion * self.d_model * self.d_model * 4

    @property
    def allowed_gb(self) -> float:
        """The goal for the peak memory of a streamed training: weights, two windows and 1 GB."""
        return (self.weight_bytes + 2 * self.window_bytes) / 1e9 + 1

    def config(self, *, stream: bool, k: int = 32) -> SaeConfig:
        n_steps = self.n_shards * self.shard_rows * 9 // 10 // self.batch_size
        streamed = {"rows": "stream", "window_shards": self.window_shards} if stream else {}
        return SaeConfig(
            kind="topk", k=k, expansion=self.expansion, batch_size=self.batch_size, n_steps=n_steps, **streamed
        )


SIZES = {
    "small": Size(192, 8, 16, 2_048, 4, 128, goal=36_000),
    "full": Size(768, 8, 12, 16_384, 3, 4_096),
}


@dataclass(frozen=True, slots=True)
class Reads:
    """How many shards were read: for the windows, which a thread of that name reads, and for samples."""

    for_windows: int
    for_samples: int


class CountingShards(SetShards):
    """Counts what is read from the store since it was asked last."""

    by_threads: list[str]

    def read(self, shard: int) -> TrainingRows:
        self.by_threads.append(threading.current_thread().name)
        return super().read(shard)

    def take(self) -> Reads:
        """The reads since the last call."""
        for_windows = self.by_threads.count("windows")
        found = Reads(for_windows, len(self.by_threads) - for_windows)
        self.by_threads.clear()
        return found


@dataclass(frozen=True, slots=True)
class Measured:
    """What the trainings took.

    Attributes:
        held: vectors a second of the training in memory.
        streamed: of the streamed one.
        sweep: of `N_SAES` over one pass, all together.
        grown_gb: by how much the streamed training raised the peak memory of the process.
        alone: shards that the streamed training read.
        together: shards that the sweep read.
    """

    held: float
    streamed: float
    sweep: float
    grown_gb: float
    alone: Reads
    together: Reads


class Context:
    """What the reader of a set needs of a job."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def check(self) -> None:
        pass


def stored_set(store: ObjectStore, size: Size) -> ActivationManifest:
    """Rows of a planted dictionary as a published set; every row is an image of its own."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(4 * size.d_model, size.d_model, generator=generator)
    entries: list[ShardEntry] = []
    for number in range(size.n_shards):
        chosen = torch.randint(len(directions), (size.shard_rows, 16), generator=generator)
        activations = torch.nn.functional.embedding_bag(chosen, directions, mode="sum")
        first = number * size.shard_rows
        index = torch.arange(first, first + size.shard_rows, dtype=torch.int32)
        shard = ActivationRows(activations, index, torch.zeros(size.shard_rows, dtype=torch.int16))
        entries.append(
            write_shard(store, shard_key(KEY, number), shard, first_image=first, end_image=first + size.shard_rows)
        )
    n_rows = size.n_shards * size.shard_rows
    return ActivationManifest(
        key=KEY, model="planted", revision="0", layer=0, tokens="cls", dtype="float32", d_model=size.d_model,
        n_rows=n_rows, n_images=n_rows, n_views=1, n_tokens=1, shards=tuple(entries), skipped=(),
    )  # fmt: skip


class Clock:
    """The time from a training's first counted step to its last."""

    def __init__(self) -> None:
        self.begin = self.end = 0.0

    def on_step(self, report: StepReport) -> None:
        if report.step == _SKIPPED_STEPS:
            self.begin = time.perf_counter()
        self.end = time.perf_counter()


def vectors_per_second(config: SaeConfig, rows: TrainingRows | StreamedRows, device: torch.device) -> float:
    """Of one training."""
    clock = Clock()
    train(config, rows, device=device, on_step=clock.on_step)
    return n_vectors(config) / (clock.end - clock.begin)


def n_vectors(config: SaeConfig) -> int:
    """Of the steps that are counted."""
    assert config.n_steps is not None
    assert config.batch_size is not None
    return (config.n_steps - _SKIPPED_STEPS) * config.batch_size


def sweep_vectors_per_second(configs: list[SaeConfig], shards: SetShards, device: torch.device) -> float:
    """Of trainings over one pass, all together."""
    shared = SharedPass(len(configs))
    clocks = [Clock() for _ in configs]

    def run(config: SaeConfig, clock: Clock) -> None:
        with shared.seat() as seat:
            work(config, clock, seat)

    def work(config: SaeConfig, clock: Clock, seat: Seat) -> None:
        train(config, StreamedRows(shards, seat), device=device, on_step=clock.on_step)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(configs, clocks, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = max(clock.end for clock in clocks) - min(clock.begin for clock in clocks)
    return sum(map(n_vectors, configs)) / seconds


def peak_gb() -> float:
    """Of this process, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measured(size: Size, store: ObjectStore, device: torch.device) -> Measured:
    """The trainings, one after the other."""
    manifest = stored_set(store, size)
    shards = CountingShards(Context(store), manifest)
    shards.by_threads = []
    before = peak_gb()
    streamed = vectors_per_second(size.config(stream=True), StreamedRows(shards), device)
    grown = peak_gb() - before
    alone = shards.take()
    columns = [shards.read(number) for number in range(size.n_shards)]
    in_memory = TrainingRows(
        *(torch.cat([getattr(part, name) for part in columns]) for name in ("activations", "image_index", "view"))
    )
    del columns
    held = vectors_per_second(size.config(stream=False), in_memory, device)
    del in_memory
    shards.take()
    configs = [size.config(stream=True, k=8 * (number + 1)) for number in range(N_SAES)]
    sweep = sweep_vectors_per_second(configs, shards, device)
    return Measured(held, streamed, sweep, grown, alone, shards.take())


def report_rows(size: Size, found: Measured) -> Iterator[Row]:
    """The rows of the report, with their goals."""
    if size.goal is None:
        yield Row("in memory", found.held, "vectors/s")
    else:
        yield at_least("in memory", found.held, "vectors/s", size.goal)
    yield Row("streamed", found.streamed, "vectors/s")
    yield at_least("streamed / in memory", found.streamed / found.held, "", 0.95)
    yield at_most("peak memory of the streamed training", found.grown_gb, "GB", size.allowed_gb)
    yield Row(f"{N_SAES} SAEs over one pass", found.sweep, "vectors/s")
    yield at_least(f"{N_SAES} SAEs over one pass / one streamed", found.sweep / found.streamed, "", 0.9)
    yield Row("shards read for the windows of one training", found.alone.for_windows, "")
    yield Row("shards read for its samples, before and after", found.alone.for_samples, "")
    yield Row(f"shards read for the windows of {N_SAES} over one pass", found.together.for_windows, "")
    yield Row("shards read for their samples", found.together.for_samples, "")
    one_by_one = N_SAES * found.alone.for_windows
    yield at_most(
        f"windows: shards read by {N_SAES} over one pass / by {N_SAES} alone",
        found.together.for_windows / one_by_one,
        "",
        1 / N_SAES,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--threads", type=int, default=2)
    add_device(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    where, what = machine(), versions()
    print_header(f"Streamed trainings, {options.size}: {SIZES[options.size]}", where, what)
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        info = stack.info()
        store = ObjectStore(info.s3_endpoint, info.s3_access_key, info.s3_secret_key, "hsae-benchmark")
        store.ensure_bucket()
        found = measured(SIZES[options.size], store, torch.device(options.device))
    rows = list(report_rows(SIZES[options.size], found))
    print_report(rows, where, what, ["an S3 server on another machine"])


if __name__ == "__main__":
    main()
