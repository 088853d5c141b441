"""Probes of one layer at every level of the taxonomy: one decomposition against one ridge regression per level.

The activations are synthetic: every node of WordNet above a class has a direction, and an image is the sum of its
class' directions and noise. Both contenders are timed on the ridge probes alone, once.
"""

import argparse
import os
import time
from dataclasses import dataclass

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
from benchmarks.hierarchy.leaves import wordnet_leaves
from benchmarks.measure import Row, add_device, at_most, machine, print_header, print_report, versions
from sklearn.linear_model import RidgeClassifier

from hsae.hierarchy.config import ProbeConfig
from hsae.hierarchy.probes.class_information import class_information
from hsae.hierarchy.probes.image_parts import TrainAndScore, split_by_class
from hsae.hierarchy.probes.level_scores import level_scores
from hsae.hierarchy.probes.ridge_probe import ridge_probes
from hsae.hierarchy.probes.taxonomy_levels import taxonomy_levels
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.taxonomy import InducedTaxonomy


@dataclass(frozen=True, slots=True)
class Size:
    """How much is probed; `goal`: the most seconds that the probes of all levels may take."""

    n_images: int
    d_model: int
    n_classes: int
    goal: float | None = None


SIZES = {
    "small": Size(600, 64, 60),
    "demo": Size(1_790, 192, 376, goal=1.0),
    "full": Size(50_000, 768, 1_000, goal=60.0),
}


def make_work(size: Size) -> tuple[np.ndarray, np.ndarray, InducedTaxonomy]:
    """Activations float32[n_images, d_model], the class of every image, and the taxonomy."""
    rng = np.random.default_rng(0)
    taxonomy = wordnet_leaves(size.n_classes)
    labels = rng.permutation(np.arange(size.n_images) % size.n_classes)
    of_nodes = rng.standard_normal((len(taxonomy.synsets), size.d_model), dtype=np.float32)
    directions = np.asarray(taxonomy.closure @ of_nodes)
    scales = np.float32(10.0) ** rng.uniform(-1, 1, size.d_model).astype(np.float32)
    noise = rng.standard_normal((size.n_images, size.d_model), dtype=np.float32)
    return (directions[labels] + 3 * noise) * scales, labels, taxonomy


def distinct_levels(taxonomy: InducedTaxonomy) -> list[np.ndarray]:
    """The group of every class at every level that differs from the one above."""
    numbered = [np.unique(level, return_inverse=True)[1] for level in taxonomy_levels(taxonomy)]
    return list({int(level.max()): level for level in numbered}.values())


def with_sklearn(
    x: np.ndarray, labels: np.ndarray, parts: TrainAndScore, level: np.ndarray, penalty: float
) -> np.ndarray:
    """Predictions of scikit-learn's classifier, at a penalty that hsae has chosen."""
    train = x[parts.train].astype(np.float64)
    alpha = penalty * ((train - train.mean(axis=0)) ** 2).sum() / x.shape[1]
    model = RidgeClassifier(alpha=alpha).fit(train, level[labels[parts.train]])
    predicted: np.ndarray = model.predict(x[parts.score].astype(np.float64))
    return predicted


def main() -> None:
    keep_freed_memory()  # as in a job, and for both contenders
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="demo", help="images x d_model (default: %(default)s)")
    add_device(parser)
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    where, what = machine(), versions()
    x, labels, taxonomy = make_work(size)
    levels = distinct_levels(taxonomy)
    parts = split_by_class(labels, 0)
    title = (
        f"probes: {size.n_images:,} images x {size.d_model:,} dimensions, {size.n_classes:,} classes, {len(levels)}"
        f" different levels with {sum(int(level.max()) + 1 for level in levels):,} groups"
    )
    print_header(title, where, what)

    start = time.perf_counter()
    probes = ridge_probes(x[parts.train], labels[parts.train], x[parts.score], levels)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    of_sklearn = [
        with_sklearn(x, labels, parts, level, probe.penalty) for level, probe in zip(levels, probes, strict=True)
    ]
    seconds_of_sklearn = time.perf_counter() - start
    pairs = zip(probes, of_sklearn, strict=True)
    differing = [float((probe.predicted != theirs).mean()) for probe, theirs in pairs]

    start = time.perf_counter()
    scores = level_scores(x, labels, taxonomy, parts, k=20)
    seconds_with_neighbours = time.perf_counter() - start
    start = time.perf_counter()
    class_information(x, labels, taxonomy, parts, ProbeConfig())
    seconds_of_layer = time.perf_counter() - start

    name = "hsae, all levels and penalties, with exact leave-one-out errors"
    print_report(
        [
            Row(name, seconds, "s") if size.goal is None else at_most(name, seconds, "s", size.goal),
            Row("hsae, the same and the 20 nearest neighbours", seconds_with_neighbours, "s"),
            Row("hsae, everything of a layer (99 shuffled taxonomies too)", seconds_of_layer, "s"),
            Row("scikit-learn, all levels, one penalty each, no leave-one-out", seconds_of_sklearn, "s"),
            Row("accuracy at the classes", float(scores.probe_accuracy[-1]), ""),
            at_most("largest share of other predictions than scikit-learn's", max(differing), "", 1e-3),
        ],
        where,
        what,
        ["CUDA", "activations of a trained backbone (these are synthetic), the logistic probe, memory"],
    )


if __name__ == "__main__":
    main()
