"""One analysis with every baseline and shuffle of the defaults, as the stage `analyze` computes it, in one process.

Synthetic activations of WordNet's leaves, a TopK SAE whose latents each prefer a node, and one whose directions are
random for the control `untrained`. The whole is run at several shares of the images, and once with half of the columns:
its time should grow with the non-zeros and the columns, and with nothing else. Clusters and exemplars are at most as
many as there are images for them, so with more images there are more columns, too. `--size train` is an eighth of
ImageNet's training set.
"""

import argparse
import os
import resource
import time
from dataclasses import dataclass, replace

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
import scipy.sparse as sp
import torch
from benchmarks.hierarchy.leaves import wordnet_leaves
from benchmarks.measure import Row, add_device, at_most, machine, print_header, print_report, versions

from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.score_bases import score_bases
from hsae.hierarchy.scored_activations import ImageParts, LabelledImages, SaeActivations
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.split_config import SplitConfig
from hsae.taxonomy import InducedTaxonomy
from hsae.vocabulary.bases import BASELINES

N_TRAIN_IMAGES = 1_281_167
"""Of ImageNet-1k's training set."""
MAX_SECONDS = 300.0
MAX_GIB = 6e9 / 2**30
"""The goal is 6 GB; the peak is reported in GiB."""
MAX_TRAIN_SECONDS = 1_800.0
MAX_OVER_LINEAR = 1.15
"""How much more a doubling may add than work that is linear in images x columns; the rest is for the machine."""
MAX_OF_HALF = 0.65
"""What half of the latents may cost, as a share of all; some work does not depend on them."""

DEAD_SHARE = 0.05
_BLOCK_IMAGES = 1024


@dataclass(frozen=True, slots=True)
class Size:
    """How much is scored, and at which parts of the images (`shares`: 8 is an eighth), the whole last."""

    n_images: int
    n_latents: int
    n_classes: int
    l0: int
    d_model: int
    shares: tuple[int, ...]


SIZES = {
    "small": Size(1_000, 128, 100, 16, 64, (2, 1)),
    "full": Size(50_000, 12_288, 1_000, 64, 768, (8, 4, 2, 1)),
    "train": Size(N_TRAIN_IMAGES // 8, 12_288, 1_000, 64, 768, (1,)),
}

_WITH_MEMORY_GOAL = (SIZES["full"], SIZES["train"])


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The input of an analysis: an SAE and its untrained twin on labelled images."""

    sae: SaeActivations
    labels: np.ndarray
    taxonomy: InducedTaxonomy

    def part(self, n_images: int, n_latents: int) -> "Work":
        """The same on the first images and of the first latents."""
        sae = self.sae
        if sae.neurons is None or sae.decoder is None or sae.untrained is None:
            raise ValueError("the work was made without what controls need")
        some = SaeActivations(
            sp.csr_array(sae.z[:n_images, :n_latents]),
            sae.neurons[:n_images],
            decoder=sae.decoder[:n_latents],
            untrained=sp.csr_array(sae.untrained[:n_images, :n_latents]),
            pre_bias=sae.pre_bias,
        )
        return Work(some, self.labels[:n_images], self.taxonomy)


def make_work(size: Size) -> Work:
    """Images around the centres of the nodes above their class; latents along such a centre, or, untrained, anywhere.

    On every image the strongest `l0` latents fire, as in a TopK SAE. Latents of nodes near the root fire on most
    images, those of leaves on few; some are dead.
    """
    rng = np.random.default_rng(0)
    taxonomy = wordnet_leaves(size.n_classes)
    labels = rng.permutation(np.arange(size.n_images) % size.n_classes)
    n_nodes = len(taxonomy.synsets)
    centres = rng.standard_normal((n_nodes, size.d_model), dtype=np.float32)
    neurons = (taxonomy.closure.astype(np.float32) @ centres)[labels]
    neurons += 2 * rng.standard_normal(neurons.shape, dtype=np.float32)
    bias = neurons.mean(axis=0)
    trained = centres[rng.integers(0, n_nodes, size.n_latents)]
    trained = trained + rng.standard_normal(trained.shape, dtype=np.float32)
    untrained = rng.standard_normal(trained.shape, dtype=np.float32)
    is_dead = rng.random(size.n_latents) < DEAD_SHARE
    trained, untrained = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (trained, untrained))
    z, of_untrained = (_encoded(neurons - bias, rows, is_dead, size.l0) for rows in (trained, untrained))
    sae = SaeActivations(z, neurons, decoder=trained, untrained=of_untrained, pre_bias=bias)
    return Work(sae, labels, taxonomy)


def _encoded(x: np.ndarray, directions: np.ndarray, is_dead: np.ndarray, l0: int) -> "sp.csr_array[np.float32]":
    rows, values = [], []
    dead = torch.from_numpy(is_dead)
    for block in torch.split(torch.from_numpy(x), _BLOCK_IMAGES):
        projected = block @ torch.from_numpy(directions).T
        strongest = projected.masked_fill_(dead, 0.0).clamp_(min=0).topk(l0, dim=1)
        rows.append(strongest.indices.int().numpy())
        values.append(strongest.values.numpy())
    n_images, n_latents = len(x), len(directions)
    flat = (np.concatenate(values).ravel(), np.concatenate(rows).ravel(), np.arange(0, n_images * l0 + 1, l0))
    z = sp.csr_array(flat, shape=(n_images, n_latents))
    z.eliminate_zeros()
    z.sort_indices()
    return z


def default_parts(n_images: int) -> ImageParts:
    """The default shares of images that train, select and score, drawn at random."""
    split = SplitConfig()
    order = np.random.default_rng(1).permutation(n_images)
    ends = (int(split.train * n_images), int((split.train + split.select) * n_images))
    train, select, score = (np.sort(part) for part in np.split(order, ends))
    return ImageParts(train, select, score)


@dataclass(frozen=True, slots=True)
class Run:
    """What one analysis took.

    Attributes:
        n_images: images.
        n_nonzero: of the SAE's latents.
        seconds: of the clock.
        cpu_seconds: of all processors.
        peak_gib: of the process so far.
        n_columns: of all bases, every one once: k-means has at most half as many as train images, exemplars as many.
    """

    n_images: int
    n_nonzero: int
    seconds: float
    cpu_seconds: float
    peak_gib: float
    n_columns: int


def analysed(work: Work, scoring: ScoringConfig, *, in_sample: bool, device: str) -> Run:
    """Run one analysis."""
    n_images, n_latents = work.sae.z.shape
    images = LabelledImages(work.labels, work.taxonomy, parts=None if in_sample else default_parts(n_images))
    start, cpu_start = time.perf_counter(), _cpu_seconds()
    results = score_bases(work.sae, images, scoring, device=device)
    seconds, cpu_seconds = time.perf_counter() - start, _cpu_seconds() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    n_columns = sum(result.layer.n_latents for result in results)
    print(
        f"  {n_images:,} images x {n_latents:,} latents, {work.sae.z.nnz:,} non-zeros, {len(results)} bases, "
        f"{n_columns:,} columns: "
        f"{seconds:.1f} s, {cpu_seconds:.1f} s of the processors, peak {peak:.2f} GiB",
        flush=True,
    )
    return Run(n_images, int(work.sae.z.nnz), seconds, cpu_seconds, peak, n_columns)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def report_rows(size: Size, runs: list[Run], alone: Run, half: Run | None) -> list[Row]:
    """The numbers. The goals are those of the sizes `full` and `train`; other runs report the same without them."""
    whole, is_full = runs[-1], size == SIZES["full"]

    def row(name: str, value: float, unit: str, goal: float) -> Row:
        return at_most(name, value, unit, goal) if is_full else Row(name, value, unit)

    name, peak = "peak memory of the process", whole.peak_gib
    rows = [
        Row("non-zeros", whole.n_nonzero, ""),
        row(f"everything, {whole.n_images:,} images", whole.seconds, "s", MAX_SECONDS),
        Row("everything, seconds of all processors", whole.cpu_seconds, "s"),
        Row("everything, columns of all bases", whole.n_columns, ""),
        Row("of it: the SAE alone", alone.seconds, "s"),
        Row("of it: the SAE alone, seconds of all processors", alone.cpu_seconds, "s"),
        at_most(name, peak, "GiB", MAX_GIB) if size in _WITH_MEMORY_GOAL else Row(name, peak, "GiB"),
    ]
    for share, run in zip(size.shares[:-1], runs, strict=False):
        rows.append(Row(f"everything, 1/{share} of the images", run.seconds, "s"))
        rows.append(Row(f"everything, 1/{share} of the images, seconds of all processors", run.cpu_seconds, "s"))
        rows.append(Row(f"everything, 1/{share} of the images, columns of all bases", run.n_columns, ""))
    if len(runs) > 2:
        added = _last_over_former([run.cpu_seconds for run in runs[-3:]])
        linear = _last_over_former([run.n_images * run.n_columns for run in runs[-3:]])
        name = "processor seconds that the last doubling of the images adds / those of the one before"
        rows.append(Row(name, added, "x"))
        rows.append(Row("the same of images x columns of all bases", linear, "x"))
        rows.append(row("the one / the other: 1 is linear", added / linear, "x", MAX_OVER_LINEAR))
        slope = (whole.seconds - runs[-2].seconds) / (whole.n_images - runs[-2].n_images)
        there = whole.seconds + slope * (N_TRAIN_IMAGES - whole.n_images)
        rows.append(
            row(f"{N_TRAIN_IMAGES:,} images, by arithmetic from the last doubling", there, "s", MAX_TRAIN_SECONDS)
        )
    if size == SIZES["train"]:
        rows.append(
            at_most(f"{N_TRAIN_IMAGES:,} images, eight times this eighth", 8 * whole.seconds, "s", MAX_TRAIN_SECONDS)
        )
    if half is not None:
        name = "half of the columns / all columns, processor seconds at the last but one share of the images"
        rows.append(row(name, half.cpu_seconds / runs[-2].cpu_seconds, "", MAX_OF_HALF))
    return rows


def _last_over_former(values: list[float]) -> float:
    """What the last of three values adds to the second one, over what that adds to the first."""
    first, second, last = values
    return (last - second) / (second - first)


def main() -> None:
    keep_freed_memory()  # as in a job
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small", help="images x latents (default: %(default)s)")
    parser.add_argument("--shares", type=int, nargs="+", help="parts of the images: 8 is an eighth, 1 the whole")
    parser.add_argument("--in-sample", action="store_true", help="all images train, select and score")
    parser.add_argument("--leave-out", choices=BASELINES, nargs="+", default=(), help="baselines that are not scored")
    add_device(parser)
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    size = replace(size, shares=tuple(arguments.shares or size.shares))
    where, what = machine(), versions()
    use = "every image for everything" if arguments.in_sample else f"split {SplitConfig().label}"
    print_header(
        f"one analysis with its controls: {size.n_images:,} images x {size.n_latents:,} latents, L0 {size.l0}, d_model"
        f" {size.d_model}, {size.n_classes:,} classes, {use}"
        + "".join(f", no {basis}" for basis in arguments.leave_out),
        where,
        what,
    )
    start = time.perf_counter()
    work = make_work(size)
    print(f"  activations made in {time.perf_counter() - start:.1f} s")
    scoring = ScoringConfig(controls=tuple(basis for basis in BASELINES if basis not in arguments.leave_out))

    def run(share: int, n_latents: int, scoring: ScoringConfig = scoring) -> Run:
        part = work.part(size.n_images // share, n_latents)
        return analysed(part, scoring, in_sample=arguments.in_sample, device=arguments.device)

    runs = [run(share, size.n_latents) for share in size.shares]
    half = run(size.shares[-2], size.n_latents // 2) if len(runs) > 1 else None
    alone = run(size.shares[-1], size.n_latents, ScoringConfig(controls=(), n_shuffles=0))
    print_report(
        report_rows(size, runs, alone, half),
        where,
        what,
        [
            "reading and encoding the images, loading into Postgres",
            "activations of a trained SAE (these are synthetic), images of several tokens or classes",
            *(["CUDA"] if arguments.device == "cpu" else []),
        ],
    )


if __name__ == "__main__":
    main()
