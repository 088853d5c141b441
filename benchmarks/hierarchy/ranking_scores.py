"""One SAE at the size of ImageNet's validation set: every score of its latents, average precision, monosemanticity.

The whole of what hsae computes of one basis (`score_basis`: every pair's scores, the exact tests, the shortlist with
its average precision and best-F1 thresholds, LCH and coverage by three rules, monosemanticity, LCA depth, the latents'
own hierarchy) is timed, and so are three parts by themselves: average precision and best F1 of the shortlist against
scikit-learn pair by pair, the monosemanticity score in linear time against its quadratic definition in torch, and the
latents' own hierarchy against nothing.
"""

import argparse
import os
import resource
import time

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import numpy as np
import torch
from benchmarks.hierarchy.preferring_latents import SIZES, Work, first_images, make_work
from benchmarks.hierarchy.ranking_references import (
    check_monosemanticity,
    quadratic,
    quadratic_by_products,
    scaled,
    similarities,
    with_sklearn,
)
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

from hsae.hierarchy.basis_result import BasisResult
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.latent_hierarchy.edges import EdgeRules, LatentEdges, NodeLatents, latent_hierarchy
from hsae.hierarchy.latent_hierarchy.families import LatentTraits
from hsae.hierarchy.score_bases import score_basis
from hsae.hierarchy.scored_activations import BasisActivations, LabelledImages
from hsae.hierarchy.scores.associations import associated_classes
from hsae.hierarchy.scores.latent_scores import latent_places
from hsae.hierarchy.scores.monosemanticity import monosemanticity
from hsae.hierarchy.scores.node_scores import iter_node_scores
from hsae.hierarchy.scores.ranking_scores import ranking_scores
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.ranks import RankedActivations, rank_activations
from hsae.pipeline.execution.freed_memory import keep_freed_memory

N_PAIRWISE = 16
"""Latents that the quadratic definition is timed on."""
TOLERANCE = 1e-9


def whole_analysis(work: Work, device: str) -> BasisResult:
    """Every score of the SAE's latents; what hsae stores of the basis `sae`."""
    given = BasisActivations("sae", rank_activations(work.z, device=device))
    images = LabelledImages(work.labels, work.taxonomy, work.embeddings)
    return score_basis(given, images, ScoringConfig(), device=device)


def every_node_score(work: Work, device: str) -> int:
    """All numbers of every pair, z and the exact p among them, and LCH and coverage of every latent."""
    ranked = rank_activations(work.z, device=device)
    sums = sum_by_class(ranked, work.labels, len(work.taxonomy.classes), device=device)
    n_found = 0
    for _, scores in iter_node_scores(sums, work.taxonomy.closure, device=device):
        n_found += int((scores.p < 1e-9).sum())
    places = latent_places(associated_classes("topk", ranked, sums, work.labels), work.taxonomy)
    return n_found + int((places.lch >= 0).sum())


def own_hierarchy(work: Work, ranked: RankedActivations, result: BasisResult) -> LatentEdges:
    """The latents' own hierarchy, as `whole_analysis` computes it."""
    pairs, latents = result.nodes, result.latents
    if latents is None:
        raise ValueError("a brief result has no latents")
    order = np.lexsort((pairs.latent, -np.nan_to_num(pairs.f1, nan=-1.0), pairs.node))
    node, first = np.unique(pairs.node[order], return_index=True)
    best_latent = np.full(len(work.taxonomy.synsets), -1, np.int32)
    best_f1 = np.zeros(len(best_latent))
    best_latent[node], best_f1[node] = pairs.latent[order][first], np.nan_to_num(pairs.f1[order][first])
    best_latent[best_f1 == 0] = -1
    edges, _ = latent_hierarchy(
        ranked,
        ranked,
        work.taxonomy,
        NodeLatents(best_latent, best_f1, best_f1),
        LatentTraits(latents.monosemanticity, embeddings=work.embeddings),
        EdgeRules(),
    )
    return edges


def defined_latents(ranked: RankedActivations, work: Work, n: int) -> np.ndarray:
    """Random latents that have a monosemanticity score."""
    defined = np.flatnonzero(~np.isnan(monosemanticity(ranked, work.embeddings)))
    return np.random.default_rng(2).choice(defined, min(n, len(defined)), replace=False)


def main() -> None:
    keep_freed_memory()  # as in a job, and for every contender
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="default", help="images x latents (default: %(default)s)")
    add_device(parser)
    arguments = parser.parse_args()
    size, device = SIZES[arguments.size], arguments.device
    where, what = machine(), versions()
    work = make_work(size)
    n_images, n_latents, n_nodes = size.n_images, size.n_latents, len(work.taxonomy.synsets)
    title = (
        f"one SAE: {n_images:,} images x {n_latents:,} latents x {n_nodes:,} nodes of {size.n_classes:,} classes, "
        f"{work.z.nnz:,} non-zeros (L0 {work.z.nnz / n_images:.0f}), d_model {size.d_model}"
    )
    print_header(title, where, what)
    before = _peak_gib()
    result = whole_analysis(work, device)
    peak = _peak_gib()
    nodes, ranked = result.nodes, rank_activations(work.z)
    print(f"  {len(nodes.latent):,} pairs on the shortlist; peak memory {before:.2f} GiB before, {peak:.2f} GiB after")

    defined = np.flatnonzero(~np.isnan(nodes.average_precision))
    sample = np.random.default_rng(1).choice(defined, size.n_pairs_sampled, replace=False)
    theirs = with_sklearn(work, nodes.latent[sample], nodes.node[sample])
    ours = (nodes.average_precision[sample], nodes.best_f1[sample])
    from_sklearn = max(float(np.abs(mine - other).max()) for mine, other in zip(ours, theirs, strict=True))
    few = first_images(work, 2_000)
    few_ranked = rank_activations(few.z)
    few_latents = defined_latents(few_ranked, few, 32)
    from_quadratic = check_monosemanticity(few, monosemanticity(few_ranked, few.embeddings), few_latents)
    for difference, whose in ((from_sklearn, "scikit-learn"), (from_quadratic, "the quadratic definition")):
        if not difference <= TOLERANCE:
            raise SystemExit(f"hsae and {whose} differ by {difference:.3g}; nothing was timed")

    a = scaled(work, defined_latents(ranked, work, size.n_latents_sampled), torch.float32)
    e = torch.nn.functional.normalize(torch.from_numpy(work.embeddings), dim=1)
    middle = slice(n_images // 2, n_images // 2 + size.n_rows_sampled)
    similarity = similarities(e, middle)
    seconds = seconds_in_turns(
        {
            "hsae, everything": lambda: whole_analysis(work, device),
            "hsae, every node score": lambda: every_node_score(work, device),
            "hsae, average precision and best F1": lambda: ranking_scores(
                ranked, work.labels, work.taxonomy.closure, nodes.latent, nodes.node
            ),
            "hsae, monosemanticity": lambda: monosemanticity(ranked, work.embeddings),
            "hsae, latents' own hierarchy": lambda: own_hierarchy(work, ranked, result),
            f"scikit-learn, {size.n_pairs_sampled} pairs": lambda: with_sklearn(
                work, nodes.latent[sample], nodes.node[sample]
            ),
            f"torch, similarities of {size.n_rows_sampled} images": lambda: similarities(e, middle),
            f"torch, quadratic, these images, {N_PAIRWISE} latents": lambda: quadratic(
                a[:, :N_PAIRWISE], similarity, middle
            ),
            f"torch, the same as a matrix product, {a.shape[1]} latents": lambda: quadratic_by_products(
                a, similarity, middle
            ),
        },
        size.n_repeats,
    )
    everything, node_scores, ranking, of_all, hierarchy, sampled, cosines, pairwise, products = seconds.values()
    sklearn = sampled / size.n_pairs_sampled * len(nodes.latent)
    # Half of the ordered pairs are enough; the similarities are computed once for all latents.
    all_rows = n_images / size.n_rows_sampled / 2
    torch_pairwise = all_rows * (cosines + pairwise * n_latents / N_PAIRWISE)
    torch_products = all_rows * (cosines + products * n_latents / a.shape[1])
    print("  everything on fewer images:")
    of_images = {}
    for share in (8, 4, 2, 1):
        part = first_images(work, n_images // share)
        start = time.perf_counter()
        whole_analysis(part, device)
        of_images[8 // share] = time.perf_counter() - start
        print(f"    {part.z.nnz:,} non-zeros: {of_images[8 // share]:.2f} s")
    print_report(
        [
            at_most("hsae, everything", everything, "s", 60.0),
            at_most("hsae, every node score with z and p, LCH and coverage", node_scores, "s", 10.0),
            *(Row(f"hsae, everything, {share}/8 of the images", seconds, "s") for share, seconds in of_images.items()),
            Row("hsae, average precision and best F1 of the shortlist", ranking, "s"),
            Row("hsae, monosemanticity of all latents", of_all, "s"),
            Row("hsae, latents' own hierarchy (co-firing of all pairs, edges, families)", hierarchy, "s"),
            at_most("peak memory of the process, input included", peak, "GiB", 4.0),
            Row("scikit-learn, average precision and best F1 of the shortlist (extrapolated)", sklearn, "s"),
            Row("scikit-learn (extrapolated) / hsae", sklearn / ranking, "x"),
            Row("torch, quadratic monosemanticity (extrapolated)", torch_pairwise, "s"),
            at_least("quadratic in torch (extrapolated) / hsae", torch_pairwise / of_all, "x", 1000.0),
            Row("torch, quadratic as a matrix product (extrapolated)", torch_products, "s"),
            Row("quadratic as a matrix product (extrapolated) / hsae", torch_products / of_all, "x"),
            at_most("largest difference from scikit-learn, sampled pairs", from_sklearn, "", TOLERANCE),
            at_most("largest difference from the quadratic definition, 2,000 images", from_quadratic, "", TOLERANCE),
        ],
        where,
        what,
        [
            "the controls (neurons and shuffles), loading into Postgres",
            *(["CUDA"] if device == "cpu" else []),
            "the quadratic definition on all images and latents, in float64, or on a GPU",
            "activations of a trained SAE (these are synthetic)",
        ],
    )  # fmt: skip


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
