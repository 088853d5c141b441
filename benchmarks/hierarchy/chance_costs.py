"""What the corrections for chance cost: the permuted trees, the exact tests, the baselines.

Two sizes. On synthetic latents at the size of ImageNet's validation set: 999 permuted trees for a layer, and the exact
tests of all nodes beside everything else that is computed of the SAE. On the demo's images, backbone and split: the
default baselines beside the SAE's own analysis.
"""

import argparse
import os
from collections.abc import Callable

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
from benchmarks.findings.real_layers import RealLayers, known_data
from benchmarks.hierarchy.preferring_latents import SIZES, Work, make_work
from benchmarks.hierarchy.ranking_scores import whole_analysis
from benchmarks.measure import Row, at_most, machine, print_header, print_report, seconds_in_turns, versions

from hsae.hierarchy.coherence.chance import Chances
from hsae.hierarchy.coherence.scores import coherence_scores
from hsae.hierarchy.coherence.tree_permutations import N_PERMUTATIONS, layer_p
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.score_bases import score_bases
from hsae.hierarchy.scores.node_scores import NodeSums
from hsae.hierarchy.scores.node_tests import node_tests
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.distinct_nodes import distinct_nodes
from hsae.hierarchy.statistics.label_sets import checked_labels, label_sets
from hsae.hierarchy.statistics.ranks import rank_activations
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.sae.config import SaeConfig
from hsae.vocabulary.bases import BASELINES

TREE_GOAL = 5.0
"""Seconds for the permuted trees of a layer with 1,000 classes."""
TEST_GOAL = 0.3
"""What the exact tests may add, as a share of the rest of the analysis."""
BASELINE_GOAL = 3.0
"""What the default baselines may cost, as a multiple of the SAE's own analysis."""
_BLOCK = 5


def permuted_trees(work: Work) -> Callable[[], object]:
    """The test of a layer's coherence by permuted trees, ready to run."""
    n_classes = len(work.taxonomy.classes)
    labels = checked_labels(work.labels, len(work.labels), n_classes)
    chance = Chances(work.taxonomy, seed=0).of(labels)
    _, _, weights = coherence_scores(rank_activations(work.z), labels, n_classes, chance, is_brief=False)
    if chance is None or weights is None:
        raise RuntimeError("the coherence of these latents is undefined")
    sizes = np.bincount(work.labels, minlength=n_classes)
    return lambda: layer_p([weights], chance.resnik, sizes, chance.keep, chance.seed)


def exact_tests(work: Work) -> Callable[[], object]:
    """The exact tests of all nodes, ready to run."""
    labels = checked_labels(work.labels, len(work.labels), len(work.taxonomy.classes))
    sets = label_sets(labels, work.taxonomy)
    sums = NodeSums(sum_by_class(rank_activations(work.z), sets.of_image, sets.closure.shape[0]), sets.closure)
    nodes = distinct_nodes(sets, labels, work.taxonomy)
    return lambda: node_tests(sums, sums, nodes)


def demo_analyses() -> tuple[Callable[[], object], Callable[[], object]]:
    """Of a TopK SAE of the demo's last block, without shuffles: its own analysis, and that with the baselines."""
    layers = RealLayers.of(known_data(None)[0], (_BLOCK,))
    sae = layers.train(_BLOCK, SaeConfig(kind="topk", k=16, n_steps=300)).sae
    given, images = layers.scored(_BLOCK, sae), layers.images()
    own, beside = (ScoringConfig(n_shuffles=0, controls=controls) for controls in ((), BASELINES))
    return lambda: score_bases(given, images, own), lambda: score_bases(given, images, beside)


def main() -> None:
    keep_freed_memory()  # as in a job
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="default", help="of the synthetic latents")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each (default: %(default)s)")
    arguments = parser.parse_args()
    where, what, size = machine(), versions(), SIZES[arguments.size]
    work = make_work(size)
    print_header(
        f"corrections for chance: {size.n_images:,} images x {size.n_latents:,} latents, {size.n_classes:,} classes;"
        f" the demo's block {_BLOCK}",
        where,
        what,
    )
    own, beside_baselines = demo_analyses()
    seconds = seconds_in_turns(
        {
            "permuted trees": permuted_trees(work),
            "exact tests": exact_tests(work),
            "everything": lambda: whole_analysis(work, "cpu"),
            "demo, the SAE alone": own,
            "demo, the SAE and the default baselines": beside_baselines,
        },
        arguments.repeats,
    )
    trees, tests, everything, alone, beside = seconds.values()
    print_report(
        [
            at_most(f"{N_PERMUTATIONS} permuted trees of a layer", trees, "s", TREE_GOAL),
            Row("exact tests of all nodes", tests, "s"),
            Row("everything of the SAE, exact tests included", everything, "s"),
            at_most("exact tests / everything else of the SAE", tests / (everything - tests), "", TEST_GOAL),
            Row("demo: the SAE's own analysis, with its intervals and shuffled trees", alone, "s"),
            at_most(
                "demo: the default baselines / the SAE's own analysis", (beside - alone) / alone, "x", BASELINE_GOAL
            ),
        ],
        where,
        what,
        ["CUDA; data sets of more than 1,000 classes; the two kinds of shuffles, which are scored as bases"],
    )


if __name__ == "__main__":
    main()
