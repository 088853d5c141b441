"""Node scores of all (latent, node) pairs: hsae against scikit-learn pair by pair, and against dense numpy.

Each contender gets the same activations and labels in memory, in the form that suits it (CSR for hsae, dense columns
for the others), and gives precision, recall, F1 and AUROC. hsae is timed twice: as it is used (`iter_node_scores`,
which also gives mass, Mann-Whitney z and the exact p of every pair), and with these four scores alone. The exact tests
of all nodes are timed beside it (`node_tests`).
"""

import argparse
import os
from dataclasses import dataclass

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
import scipy.sparse as sp
import torch
from benchmarks.hierarchy.leaves import wordnet_leaves
from benchmarks.measure import (
    Row,
    add_device,
    at_least,
    at_most,
    machine,
    print_header,
    print_report,
    seconds_in_turns,
    versions,
)
from scipy.stats import rankdata
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.scores.node_scores import NodeSums, iter_node_scores
from hsae.hierarchy.scores.node_tests import NodeTests, node_tests
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.distinct_nodes import distinct_nodes
from hsae.hierarchy.statistics.label_sets import label_sets
from hsae.hierarchy.statistics.ranks import rank_activations
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.taxonomy import InducedTaxonomy

SCORES = ("precision", "recall", "f1", "auroc")
N_FIRING = 32
"""Latents that fire on an image: the L0 of a usual TopK SAE."""
DEAD_SHARE = 0.05
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Size:
    """How much is scored. `n_sampled`: pairs that scikit-learn is timed on; the goals are those of the ratios."""

    n_images: int
    n_latents: int
    n_classes: int
    n_sampled: int
    n_repeats: int
    sklearn_goal: float | None = None
    numpy_goal: float | None = None


SIZES = {
    "small": Size(600, 64, 100, 40, 2),
    "default": Size(5_000, 512, 376, 400, 5),
    "full": Size(20_000, 2_048, 1_000, 400, 7, sklearn_goal=100_000.0, numpy_goal=35.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """The common input.

    `dense`: activations, float32[n_images, n_latents] by column; `z`: the same in CSR; `labels`: class of every image;
    `taxonomy`: of the classes; `is_under`: bool[n_images, n_nodes] by column, whether an image lies under a
    node.
    """

    dense: np.ndarray
    z: "sp.csr_array[np.float32]"
    labels: np.ndarray
    taxonomy: InducedTaxonomy
    is_under: np.ndarray

    @property
    def closure(self) -> "sp.csr_array[np.uint8]":
        """uint8[n_classes, n_nodes]."""
        return self.taxonomy.closure


def make_work(size: Size) -> Work:
    """Images of WordNet's leaves under all their hypernyms, and latents that each prefer one node.

    On every image the strongest N_FIRING latents fire, as in a TopK SAE; some latents are dead.
    """
    rng = np.random.default_rng(0)
    taxonomy = wordnet_leaves(size.n_classes)
    labels = rng.permutation(np.arange(size.n_images) % size.n_classes)
    is_under = np.asfortranarray(taxonomy.closure.toarray()[labels] > 0)
    preferred = rng.integers(0, is_under.shape[1], size.n_latents)
    strength = rng.standard_normal((size.n_images, size.n_latents), dtype=np.float32)
    strength += np.float32(3.0) * is_under[:, preferred]
    strength[:, rng.random(size.n_latents) < DEAD_SHARE] = -np.inf
    weakest = np.partition(strength, -N_FIRING, axis=1)[:, -N_FIRING, np.newaxis]
    dense = np.asfortranarray(np.where(strength >= weakest, np.maximum(strength, 0), np.float32(0)))
    return Work(dense, sp.csr_array(dense), labels, taxonomy, is_under)


def with_hsae(work: Work, device: str) -> dict[str, np.ndarray]:
    """The scores, float64[n_latents, n_nodes] each."""
    n_classes, n_nodes = work.closure.shape
    sums = sum_by_class(rank_activations(work.z, device=device), work.labels, n_classes, device=device)
    scores = {name: np.empty((work.z.shape[1], n_nodes)) for name in SCORES}
    for latents, block in iter_node_scores(sums, work.closure, device=device):
        for name in SCORES:
            scores[name][latents] = getattr(block, name)
    return scores


def with_hsae_four_scores(work: Work, device: str) -> dict[str, np.ndarray]:
    """The scores without the rest of what `iter_node_scores` gives."""
    n_classes, n_nodes = work.closure.shape
    ranked = rank_activations(work.z, n_top=0, device=device)
    node_sums = NodeSums(sum_by_class(ranked, work.labels, n_classes, device=device), work.closure, device=device)
    scores = {name: np.empty((n_nodes, work.z.shape[1])) for name in SCORES}

    def score(latents: slice) -> None:
        pairs = node_sums.block(latents, with_mass=False)
        for name in SCORES:
            out = torch.from_numpy(scores[name][:, latents])
            if device == "cpu":
                getattr(pairs, name)(out=out)
            else:
                out.copy_(getattr(pairs, name)())

    for _ in map_blocks(score, node_sums.latent_runs(), device):
        pass
    return {name: values.T for name, values in scores.items()}


def exact_tests(work: Work, device: str) -> NodeTests:
    """p- and q-values of all nodes, with the sums that a scoring has anyway."""
    n_classes = len(work.taxonomy.classes)
    sums = sum_by_class(rank_activations(work.z, n_top=0, device=device), work.labels, n_classes, device=device)
    node_sums = NodeSums(sums, work.closure, device=device)
    nodes = distinct_nodes(label_sets(work.labels, work.taxonomy), work.labels, work.taxonomy)
    return node_tests(node_sums, node_sums, nodes)


def with_numpy(work: Work) -> dict[str, np.ndarray]:
    """The same from dense ranks and two matrix products over the images, NaN where undefined as in hsae."""
    n_images = len(work.labels)
    fires, is_under = work.dense > 0, work.is_under.astype(np.float64)
    n_fire = fires.sum(axis=0, dtype=np.float64)[:, np.newaxis]
    n_node = is_under.sum(axis=0)
    n_both = fires.T.astype(np.float64) @ is_under
    rank_sum = rankdata(work.dense, axis=0).T @ is_under
    n_pairs = n_node * (n_images - n_node)
    is_dead = n_fire == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(n_node == 0, np.nan, n_both / n_fire)
        recall = np.where(is_dead, np.nan, n_both / n_node)
        f1 = np.where(is_dead | (n_node == 0), np.nan, 2 * n_both / (n_fire + n_node))
        auroc = (rank_sum - n_node * (n_node + 1) / 2) / n_pairs
    is_constant = work.dense.min(axis=0) == work.dense.max(axis=0)
    auroc[is_constant] = np.nan
    return {"precision": precision, "recall": recall, "f1": f1, "auroc": auroc}


def with_sklearn(work: Work, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """The scores of `pairs`, int[n_pairs, 2] of latent and node, each from scikit-learn's own functions."""
    scores = {name: np.empty(len(pairs)) for name in SCORES}
    for place, (latent, node) in enumerate(pairs):
        truth, activation = work.is_under[:, node], work.dense[:, latent]
        precision, recall, f1, _ = precision_recall_fscore_support(truth, activation > 0, average="binary")
        scores["precision"][place], scores["recall"][place], scores["f1"][place] = precision, recall, f1
        scores["auroc"][place] = roc_auc_score(truth, activation)
    return scores


def largest_difference(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], whose: str) -> float:
    """Over all scores; ends the program where it is above TOLERANCE or another score is NaN."""
    largest = 0.0
    for name in SCORES:
        if not np.array_equal(np.isnan(ours[name]), np.isnan(theirs[name])):
            raise SystemExit(f"{name}: hsae and {whose} leave other pairs undefined; nothing was timed")
        largest = max(largest, float(np.nanmax(np.abs(ours[name] - theirs[name]))))
    if largest > TOLERANCE:
        raise SystemExit(f"hsae and {whose} differ by {largest:.3g}; nothing was timed")
    return largest


def ratio(name: str, value: float, goal: float | None) -> Row:
    """How much faster hsae does the same work."""
    return Row(name, value, "x") if goal is None else at_least(name, value, "x", goal)


def main() -> None:
    keep_freed_memory()  # as in a job, and for every contender
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="default", help="images x latents (default: %(default)s)")
    add_device(parser)
    arguments = parser.parse_args()
    size, device = SIZES[arguments.size], arguments.device
    where, what = machine(), versions()
    work = make_work(size)
    n_pairs = work.dense.shape[1] * work.closure.shape[1]
    n_classes, n_nodes = work.closure.shape
    title = (
        f"node scores: {size.n_images:,} images x {size.n_latents:,} latents x {n_nodes:,} nodes of {n_classes:,} "
        f"classes = {n_pairs:,} pairs; {work.z.nnz / size.n_images:.0f} latents fire on an image"
    )
    print_header(title, where, what)

    ours = with_hsae(work, device)
    defined = np.argwhere(np.all([~np.isnan(ours[name]) for name in SCORES], axis=0))
    sample = np.random.default_rng(1).choice(defined, size.n_sampled, replace=False)
    ours_sampled = {name: ours[name][tuple(sample.T)] for name in SCORES}
    from_numpy = largest_difference(ours, with_numpy(work), "numpy")
    largest_difference(with_hsae_four_scores(work, device), ours, "its own four scores")
    from_sklearn = largest_difference(ours_sampled, with_sklearn(work, sample), "scikit-learn")

    seconds = seconds_in_turns(
        {
            "hsae": lambda: with_hsae(work, device),
            "hsae, four scores": lambda: with_hsae_four_scores(work, device),
            "exact tests": lambda: exact_tests(work, device),
            "numpy": lambda: with_numpy(work),
            f"scikit-learn, {size.n_sampled} pairs": lambda: with_sklearn(work, sample),
        },
        size.n_repeats,
    )
    hsae, hsae_four, tests, numpy, sampled = seconds.values()
    sklearn = sampled / size.n_sampled * len(defined)
    print(
        f"  scikit-learn was timed on {size.n_sampled} random pairs of the {len(defined):,} whose scores are all "
        "defined; its time for all of these is extrapolated"
    )
    print_report(
        [
            Row("hsae with z, p and mass, all pairs", hsae, "s"),
            Row("hsae, four scores alone, all pairs", hsae_four, "s"),
            Row("hsae, exact tests of all nodes, class sums included", tests, "s"),
            Row("dense numpy, all pairs", numpy, "s"),
            Row("scikit-learn per pair, all defined pairs (extrapolated)", sklearn, "s"),
            Row("hsae, pairs per second", n_pairs / hsae, "1/s"),
            Row("dense numpy / hsae with z, p and mass", numpy / hsae, "x"),
            Row("scikit-learn (extrapolated) / hsae with z, p and mass", sklearn / hsae, "x"),
            ratio("dense numpy / hsae, four scores alone", numpy / hsae_four, size.numpy_goal),
            ratio("scikit-learn (extrapolated) / hsae, four scores alone", sklearn / hsae_four, size.sklearn_goal),
            at_most("largest difference from numpy, all pairs", from_numpy, "", TOLERANCE),
            at_most("largest difference from scikit-learn, sampled pairs", from_sklearn, "", TOLERANCE),
        ],
        where,
        what,
        [
            *(["CUDA"] if device == "cpu" else []),
            "scikit-learn on every pair, or in several processes",
            "activations of a trained SAE (these are synthetic), other sparsities, memory",
        ],
    )


if __name__ == "__main__":
    main()
