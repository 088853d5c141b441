"""Ways to fool oneself with the numbers of an analysis, measured on the demo's images: each beside what it should be.

The table of docs/metrics.md, "Three ways to fool yourself with these numbers", is made from the JSON of this. The SAEs
are trained here, on blocks of the demo's backbone: TopK as in the demo, ReLU with a fixed L1 coefficient (the demo's
aims at an L0); in-sample ones on all images.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
import torch
from benchmarks.findings.real_layers import RealLayers, headlines, known_data
from benchmarks.measure import Row, machine, print_header, print_report, versions
from scipy.stats import false_discovery_control, norm

from hsae.hierarchy.baselines import Baselines
from hsae.hierarchy.coherence.class_pairs import top_class_pairs
from hsae.hierarchy.coherence.resnik import resnik_similarity
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.labelled_parts import chosen_pairs, labelled_parts, rank_parts
from hsae.hierarchy.probes.image_parts import split_by_class
from hsae.hierarchy.probes.ridge_probe import ridge_probes
from hsae.hierarchy.scored_activations import BasisActivations, LabelledImages, SaeActivations
from hsae.hierarchy.scores.adjusted_f1 import node_adjusted_f1
from hsae.hierarchy.scores.associations import associated_classes
from hsae.hierarchy.scores.latent_scores import latent_places
from hsae.hierarchy.scores.node_scores import NodeSums, iter_node_scores
from hsae.hierarchy.scores.node_tests import node_tests
from hsae.hierarchy.scores.shortlist import HIGH_F1
from hsae.hierarchy.statistics.distinct_nodes import distinct_nodes
from hsae.hierarchy.statistics.ranks import rank_activations
from hsae.hierarchy.study.estimates import JACKKNIFE
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.sae.config import SaeConfig
from hsae.taxonomy import InducedTaxonomy
from hsae.vocabulary.bases import ControlBasis

RELU = SaeConfig(kind="relu", l1_coefficient=0.3, n_steps=500)
TOPK = SaeConfig(kind="topk", k=16, n_steps=500)
LADDER: tuple[ControlBasis, ...] = ("neuron", "random", "exemplar")
MIN_SUPPORT = 16
REACH = 1.96
N_RANDOM_SETS, N_BOOTSTRAP = 10_000, 2_000
SCORING = ScoringConfig(n_tree_shuffles=0)


def of_sae(sae: SaeActivations, images: LabelledImages, *, basis: str = "sae") -> BasisActivations:
    """The SAE's latents, or with the basis `shuffled_labels` the same beside labels that mean nothing."""
    ranked, selecting = rank_parts(sae.z, images.parts)
    return BasisActivations(basis, ranked, selecting=selecting)  # type: ignore[arg-type]  # a name of a basis


def of_baseline(sae: SaeActivations, images: LabelledImages, basis: ControlBasis) -> BasisActivations:
    """Columns at the SAE's densities."""
    selecting = rank_parts(sae.z, images.parts)[1]
    ladder = Baselines.of(sae, selecting, images, SCORING, device="cpu", check=lambda: None)
    found = ladder.activations(basis, 0)
    if found is None:
        raise RuntimeError(f"{basis} has no columns")
    return found


def node_share(given: BasisActivations, images: LabelledImages) -> float:
    """Share of the distinct nodes whose chosen latent has F1 >= 0.5 on the scored images."""
    parts = labelled_parts(given, images, device="cpu")
    chosen = chosen_pairs(parts, images.taxonomy, everything=False, device="cpu")
    counts = distinct_nodes(parts.scored.sets, parts.scored.labels, images.taxonomy).counts
    return float((chosen.node_best_f1[counts] >= HIGH_F1).mean())


def heights_and_support(z: SaeActivations, layers: RealLayers) -> tuple[np.ndarray, np.ndarray]:
    """LCH height of every latent, NaN if dead, and the number of images on which it fires."""
    ranked = rank_activations(z.z)
    images = LabelledImages(layers.labels, layers.taxonomy)
    sums = labelled_parts(BasisActivations("sae", ranked), images, device="cpu").scored.sums
    places = latent_places(associated_classes("topk", ranked, sums, layers.labels), layers.taxonomy)
    return np.where(places.lch >= 0, places.height, np.nan), ranked.n_fire


def lch_rows(layers: RealLayers, of_block: dict[int, SaeActivations]) -> Iterator[Row]:
    """Mean LCH height with depth: of all latents, and of those that fire on enough images."""
    for block, z in of_block.items():
        height, n_fire = heights_and_support(z, layers)
        alive, supported = n_fire > 0, n_fire >= MIN_SUPPORT
        yield Row(f"LCH height, block {block}: mean of all latents that fire", float(np.nanmean(height[alive])), "")
        yield Row(f"LCH height, block {block}: mean of those on 16 images or more", float(height[supported].mean()), "")
        yield Row(f"LCH height, block {block}: share on fewer than 16", float((~supported[alive]).mean()), "")
    for n_classes in (1, 2):
        mean = random_height(layers.taxonomy, n_classes)
        yield Row(f"LCH height of random classes, K = {n_classes}: mean", mean, "")


def random_height(taxonomy: InducedTaxonomy, n_classes: int) -> float:
    """Mean LCH height of classes drawn at random."""
    rng = np.random.default_rng(0)
    all_classes = len(taxonomy.classes)
    drawn = [rng.choice(all_classes, n_classes, replace=False).tolist() for _ in range(N_RANDOM_SETS)]
    return float(np.mean([taxonomy.height[taxonomy.lch(classes)] for classes in drawn]))


def luck_rows(layers: RealLayers, sae: SaeActivations, block: int) -> Iterator[Row]:
    """Share of nodes with F1 >= 0.5 in-sample, real and by luck: all images, and one image a class."""
    first = np.unique(layers.labels, return_index=True)[1]
    assert sae.neurons is not None  # `RealLayers` gives them
    alone = SaeActivations(sae.z[first], sae.neurons[first])
    for name, latents, labels in (
        ("all images", sae, layers.labels),
        ("one image a class", alone, layers.labels[first]),
    ):
        images = LabelledImages(labels, layers.taxonomy)
        title = f"share of nodes with F1 >= 0.5, block {block}, in-sample, {name}"
        yield Row(f"{title}: SAE", node_share(of_sae(latents, images), images), "")
        shuffled = of_sae(latents, images, basis="shuffled_labels")
        yield Row(f"{title}: SAE, labels shuffled", node_share(shuffled, images), "")
        yield Row(f"{title}: random directions", node_share(of_baseline(latents, images, "random"), images), "")
    yield Row("taxonomy: nodes", len(layers.taxonomy.synsets), "")
    yield Row("taxonomy: nodes of one class", int((layers.taxonomy.leaf_counts == 1).sum()), "")
    images = LabelledImages(layers.labels, layers.taxonomy)
    scored = labelled_parts(of_sae(sae, images), images, device="cpu").scored
    distinct = np.unique(distinct_nodes(scored.sets, scored.labels, layers.taxonomy).representative)
    yield Row("taxonomy: distinct sets of images", len(distinct), "")


def test_rows(layers: RealLayers, sae: SaeActivations, block: int) -> Iterator[Row]:
    """Nodes with q < 0.01 under shuffled labels: normal tail of Mann-Whitney's z, and the exact test."""
    images = LabelledImages(layers.labels, layers.taxonomy)
    scored = labelled_parts(of_sae(sae, images, basis="shuffled_labels"), images, device="cpu").scored
    counts = distinct_nodes(scored.sets, scored.labels, layers.taxonomy)
    blocks = [found.z for _, found in iter_node_scores(scored.sums, scored.sets.closure)]
    z = np.concatenate(blocks)
    q = np.ones_like(z)
    is_there = np.asarray(~np.isnan(z))
    q[is_there] = false_discovery_control(2 * norm.sf(np.abs(z[is_there])))
    passes = np.asarray(((q < 0.01) & (z > 0)).any(axis=0))
    title = f"nodes with q < 0.01, block {block}, labels shuffled"
    yield Row(f"{title}: Mann-Whitney, normal tail", float(passes[counts.counts].mean()), "")
    sums = NodeSums(scored.sums, scored.sets.closure)
    exact = node_tests(sums, sums, counts).q[counts.counts]
    yield Row(f"{title}: hypergeometric, best latent", float((exact < 0.01).mean()), "")


def choice_rows(layers: RealLayers, seen: SaeActivations, unseen: SaeActivations, block: int) -> Iterator[Row]:
    """Share of nodes on the same scored images: chosen on them, chosen on others, and never seen by the SAE."""
    images, score = layers.images(), layers.parts.score
    themselves = LabelledImages(layers.labels[score], layers.taxonomy)
    assert seen.neurons is not None  # `RealLayers` gives them
    alone = SaeActivations(seen.z[score], seen.neurons[score])
    title = f"share of nodes with F1 >= 0.5, block {block}, scored style"
    yield Row(
        f"{title}: chosen and scored on it, the SAE saw it", node_share(of_sae(alone, themselves), themselves), ""
    )
    yield Row(f"{title}: chosen on another style, the SAE saw it", node_share(of_sae(seen, images), images), "")
    yield Row(f"{title}: chosen on another style, never seen", node_share(of_sae(unseen, images), images), "")


def ladder_rows(layers: RealLayers, sae: SaeActivations, title: str) -> Iterator[Row]:
    """Held-out coherence excess and inner F1 of every basis with their intervals, and the SAE's by a bootstrap."""
    images = layers.images()
    bases: dict[str, BasisActivations] = {"sae": of_sae(sae, images)}
    bases |= {basis: of_baseline(sae, images, basis) for basis in LADDER}
    for basis, given in bases.items():
        resampled, measured = headlines(given, images, SCORING)
        found = resampled.replicates
        for metric in ("f1_adjusted_inner_mean", "coherence_excess"):
            half = REACH * JACKKNIFE * float(np.std(found[metric].replicates, ddof=1))
            yield Row(f"{title}, {basis}: {metric}", found[metric].value, "")
            yield Row(f"{title}, {basis}: {metric}, half of the interval", half, "")
        if basis == "sae":
            parts = labelled_parts(given, images, device="cpu")
            chosen = chosen_pairs(parts, images.taxonomy, everything=False, device="cpu")
            nodes, inner = measured.nodes, measured.nodes.strata()[2]
            f1 = node_adjusted_f1(chosen.node_best_f1[inner], nodes.n_node[inner], nodes.n_images)
            yield Row(f"{title}, sae: f1_adjusted_inner_mean, half of a bootstrap of nodes", bootstrap(f1), "")
            pairs = top_class_pairs(given.ranked.top_images, measured.labels, resnik_similarity(images.taxonomy))
            yield Row(
                f"{title}, sae: coherence_excess, half of a bootstrap of latents", bootstrap(pairs.coherence()), ""
            )


def bootstrap(values: np.ndarray) -> float:
    """Half of the 95 % interval of the mean, as if the values were independent."""
    values = values[~np.isnan(values)]
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(N_BOOTSTRAP)]
    return REACH * float(np.std(means, ddof=1))


def probe_rows(layers: RealLayers) -> Iterator[Row]:
    """One probe per block, trained on three quarters of the styles that trained the backbone; scored on two sets."""
    seen = np.concatenate((layers.parts.train, layers.parts.select))
    split = split_by_class(layers.labels[seen], 0)
    train, others = seen[split.train], seen[split.score]
    for block in sorted(layers.activations):
        x = layers.plain(block).numpy()
        (probe,) = ridge_probes(
            x[train],
            layers.labels[train],
            np.concatenate((x[others], x[layers.parts.score])),
            [np.arange(len(layers.taxonomy.classes))],
        )
        right = probe.predicted == layers.labels[np.concatenate((others, layers.parts.score))]
        yield Row(f"probe, block {block}: styles that trained the backbone", float(right[: len(others)].mean()), "")
        yield Row(f"probe, block {block}: style fxemoji", float(right[len(others) :].mean()), "")


def main() -> None:
    keep_freed_memory()  # as in a job
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shared", type=Path, help="a folder with emoji and a backbone for them: the ladder there, too"
    )
    parser.add_argument("--block", type=int, default=9, help="block of the other backbone (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    where, what = machine(), versions()
    print_header("ways to fool oneself, on the demo's images", where, what)
    demo, *others = known_data(arguments.shared)
    layers = RealLayers.of(demo)
    first, last = min(layers.activations), max(layers.activations)
    rows = list(probe_rows(layers))
    seen = {
        block: layers.scored(block, layers.train(block, RELU, in_sample=True).sae, in_sample=True)
        for block in (first, last)
    }
    rows += lch_rows(layers, seen)
    rows += luck_rows(layers, seen[last], last)
    rows += test_rows(layers, seen[last], last)
    for config in (RELU, TOPK):
        trained = layers.train(last, config)
        unseen = layers.scored(last, trained.sae)
        if config is RELU:
            rows += choice_rows(layers, seen[last], unseen, last)
        title = f"{config.kind}, block {last}, held out"
        figures = trained.metrics
        rows += [
            Row(f"{title}: FVU, training rows", float(figures.train_fvu or np.nan), ""),
            Row(f"{title}: FVU, held-out rows", float(figures.fvu or np.nan), ""),
            Row(f"{title}: L0, training rows", figures.train_l0, ""),
            Row(f"{title}: L0, held-out rows", float(figures.l0 or np.nan), ""),
        ]
        rows += ladder_rows(layers, unseen, title)
    for data in others[:1]:
        other = RealLayers.of(data, (arguments.block,))
        sae = other.scored(arguments.block, other.train(arguments.block, TOPK).sae)
        rows += ladder_rows(other, sae, f"{data.name}, topk, block {arguments.block}, held out")
    print_report(rows, where, what, ["other seeds of the SAEs and of the shuffles"])


if __name__ == "__main__":
    main()
