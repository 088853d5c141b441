"""Headline numbers where there is nothing to find: labels shuffled over images, or classes over the tree, 100 times.

No headline number may then differ from its null at the 5 % level in more than 5 % of the seeds; 11 of 100 are
allowed, for the error of a binomial share (more has a chance of 0.4 %). The null of coherence excess and LCH excess is
0, that of purity is the purity of random images: they differ where the 95 % interval, by deleting classes, excludes it.
Purity has no interval, and so cannot differ, where too few classes carry it. Mean adjusted F1 differs
where it is out of the range of shuffled trees. The latents are those of real SAEs, trained on other images, and of
planted ones; only labels and tree change.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
import scipy.sparse as sp
import torch
from benchmarks.findings.real_layers import RealLayers, headlines, known_data
from benchmarks.hierarchy.leaves import wordnet_leaves
from benchmarks.measure import Row, at_most, machine, print_header, print_report, versions
from scipy.stats import binom

from hsae.hierarchy.coherence.purity import n_pure_classes, null_purity
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.controls.shuffles import shuffle_labels, shuffle_taxonomy
from hsae.hierarchy.labelled_parts import rank_parts
from hsae.hierarchy.resampling.resampled import Headline, Resampled
from hsae.hierarchy.scored_activations import BasisActivations, ImageParts, LabelledImages
from hsae.hierarchy.study.estimates import JACKKNIFE
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.sae.config import SaeConfig

TAIL = 0.005
REACH = 1.96
LEVEL = 0.05
N_OF_TREE, N_OF_LABELS = 99, 39
"""Shuffled trees that a mean adjusted F1 is compared with: of all shuffled trees the same, of every shuffled labelling
its own."""
OF_F1: tuple[Headline, ...] = ("f1_adjusted_inner_mean", "f1_adjusted_mean")
OF_TREE: tuple[Headline, ...] = ("coherence_excess", "coherence_excess_weighted", "lch_excess_mean", *OF_F1)
"""Numbers that depend on the tree; purity does not."""

SAES = {
    "demo": (5, SaeConfig(kind="relu", l1_coefficient=0.3, n_steps=500)),
    "emoji": (9, SaeConfig(kind="topk", k=16, n_steps=500)),
    "fashion": (5, SaeConfig(kind="relu", l1_coefficient=0.3, n_steps=500)),
}
"""Block and SAE of every data set."""


@dataclass(frozen=True, slots=True)
class Case:
    """Latents of one data set."""

    name: str
    z: "sp.csr_array[np.float32]"
    images: LabelledImages

    @property
    def parts(self) -> ImageParts:
        """What the images are used for."""
        if self.images.parts is None:
            raise ValueError("a null test needs images that are held out")
        return self.images.parts

    def scored(self, labels: np.ndarray, n_trees: int) -> tuple[Resampled, float, int]:
        """The headline numbers with these labels, the purity of random images, and the classes that carry purity."""
        ranked, selecting = rank_parts(self.z, self.parts)
        given = BasisActivations("sae", ranked, selecting=selecting)
        images = replace(self.images, labels=labels)
        found, measured = headlines(given, images, ScoringConfig(n_tree_shuffles=n_trees))
        carrying = n_pure_classes(measured.top_images, measured.labels, measured.n_classes)
        return found, null_purity(measured.labels, measured.n_classes), carrying


def real_case(layers: RealLayers, name: str) -> Case:
    """An SAE on the images that train, scored on the others."""
    block, config = SAES[name]
    z = layers.scored(block, layers.train(block, config).sae).z
    return Case(f"{name}, block {block}, {config.kind}", z, layers.images())


def planted_case(n_classes: int = 376, n_latents: int = 600, n_of_class: int = 8) -> Case:
    """Latents that fire on 60 % of the images of a node of WordNet, and on 0.1 to 2 % of all others."""
    taxonomy = wordnet_leaves(n_classes)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), n_of_class)
    under = taxonomy.closure.toarray()[labels] > 0
    fires = (rng.random((len(labels), n_latents)) < 0.6) & under[:, rng.integers(0, under.shape[1], n_latents)]
    fires |= rng.random(fires.shape) < rng.uniform(0.001, 0.02, n_latents)
    z = sp.csr_array((fires * rng.exponential(1.0, fires.shape)).astype(np.float32))
    place = np.arange(len(labels)) % n_of_class
    halves = ImageParts(*(np.flatnonzero(place % 2 == part) for part in (2, 0, 1)))
    return Case("planted truth", z, LabelledImages(labels, taxonomy, parts=halves))


def shuffled_labels(case: Case, seed: int) -> np.ndarray:
    """Labels of other images of the same part."""
    labels = np.array(case.images.labels)
    for number, part in enumerate((case.parts.select, case.parts.score)):
        labels[part] = shuffle_labels(labels[part], [seed, number])
    return labels


def most_beyond(n_seeds: int) -> float:
    """The share of seeds that may differ: more has a chance of less than 0.5 % if 5 % do."""
    return float(binom.isf(TAIL, n_seeds, LEVEL)) / n_seeds


@dataclass(slots=True)
class Outcomes:
    """One headline number under every seed: its distance to its null, the standard error of its interval, and its p."""

    distances: list[float]
    errors: list[float]
    p: list[float]

    def rows(self, name: str) -> Iterator[Row]:
        """The share beyond the interval, and how far the number is off and spreads."""
        distance, error, p = np.array(self.distances), np.array(self.errors), np.array(self.p)
        beyond = float((np.abs(distance) > REACH * error + 1e-12).mean())
        title = f"{name}: share of seeds beyond the interval"
        if np.isnan(p).all():
            yield at_most(title, beyond, "", most_beyond(len(p)))
        else:
            title_of_p = f"{name}: share of seeds out of the range of shuffled trees"
            yield at_most(title_of_p, float((p <= LEVEL).mean()), "", most_beyond(len(p)))
            yield Row(title, beyond, "")
        yield Row(f"{name}: mean distance to the null", float(distance.mean()), "")
        yield Row(f"{name}: standard deviation over the seeds", float(distance.std(ddof=1)), "")
        yield Row(f"{name}: mean standard error of the interval", float(np.nanmean(error)), "")


def two_sided_p(value: float, shuffled: np.ndarray) -> float:
    """Twice the share of the value and the shuffles that is as extreme on its side; exact, at most 1."""
    n_extreme = min(int((shuffled <= value + 1e-12).sum()), int((shuffled >= value - 1e-12).sum()))
    return min(1.0, 2.0 * (1 + n_extreme) / (1 + len(shuffled)))


def distances(found: Resampled, pure_by_chance: float, f1_by_chance: dict[Headline, float]) -> dict[Headline, float]:
    """Every headline number less its null."""
    chance = {"purity_mean": pure_by_chance, **f1_by_chance}
    return {metric: one.value - chance.get(metric, 0.0) for metric, one in found.replicates.items()}


def null_rows(case: Case, n_seeds: int) -> Iterator[Row]:
    """Rows of one data set: what the true labels give, and the outcomes of both shuffles."""
    labels = np.array(case.images.labels)
    n_classes = len(case.images.taxonomy.classes)
    truth, pure, carrying = case.scored(labels, N_OF_TREE)
    of_trees = {metric: float(truth.trees[metric].shuffled.mean()) for metric in OF_F1}
    for metric, distance in distances(truth, pure, of_trees).items():
        error = JACKKNIFE * float(np.std(truth.replicates[metric].replicates, ddof=1))
        yield Row(f"{case.name}, true labels, {metric}: distance to the null", distance, "")
        yield Row(f"{case.name}, true labels, {metric}: half of the interval", REACH * error, "")
        yield Row(f"{case.name}, {metric}: latents or nodes", truth.replicates[metric].n, "")
    n_pure = int((np.bincount(labels[case.parts.score]) > 1).sum())
    yield Row(f"{case.name}: classes of two scored images or more", n_pure, "")
    yield Row(f"{case.name}: classes that carry purity", carrying, "")
    for shuffle in ("labels", "tree"):
        outcomes = {metric: Outcomes([], [], []) for metric in truth.replicates}
        for seed in range(n_seeds):
            if shuffle == "labels":
                found, pure, _ = case.scored(shuffled_labels(case, seed), N_OF_LABELS)
                trees = found.trees
            else:  # far from the seeds of the trees that it is compared with
                moved = shuffle_taxonomy(labels, n_classes, 10_000 + seed, scored=labels[case.parts.score])
                found, pure, _ = case.scored(np.asarray(moved), 0)
                trees = truth.trees
            by_chance = {metric: float(trees[metric].shuffled.mean()) for metric in OF_F1}
            for metric, distance in distances(found, pure, by_chance).items():
                outcomes[metric].distances.append(distance)
                outcomes[metric].errors.append(JACKKNIFE * float(np.std(found.replicates[metric].replicates, ddof=1)))
                p = np.nan
                if metric in OF_F1:
                    p = two_sided_p(found.replicates[metric].value, trees[metric].shuffled)
                outcomes[metric].p.append(p)
        for metric, outcome in outcomes.items():
            is_defined = not np.isnan(outcome.distances).any() and not np.isnan(outcome.errors).all()
            if is_defined and (shuffle == "labels" or metric in OF_TREE):
                yield from outcome.rows(f"{case.name}, shuffled {shuffle}, {metric}")


def main() -> None:
    keep_freed_memory()  # as in a job
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="a folder with emoji, fashion and their backbones")
    parser.add_argument("--seeds", type=int, default=100, help="shuffles of each kind (default: %(default)s)")
    parser.add_argument("--only", help="one data set: demo, emoji, fashion or planted")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    where, what = machine(), versions()
    print_header("headline numbers under shuffled labels and shuffled trees", where, what)
    rows: list[Row] = []
    for data in known_data(arguments.shared):
        if arguments.only in (None, data.name):
            rows += null_rows(real_case(RealLayers.of(data, (SAES[data.name][0],)), data.name), arguments.seeds)
    if arguments.only in (None, "planted"):
        rows += null_rows(planted_case(), arguments.seeds)
    left_out = "numbers that are undefined on a data set, or have no interval there: they have no row"
    print_report(rows, where, what, [left_out])


if __name__ == "__main__":
    main()
