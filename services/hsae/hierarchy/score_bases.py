"""One analysis: a trained SAE's latents and their controls, scored against the taxonomy."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64, Int32, Int64

from hsae.errors import UserError
from hsae.hierarchy.basis_result import Basis, BasisResult, NodeTable
from hsae.hierarchy.config import ASSOCIATION_RULES, CONTROL_BASES, EDGE_SOURCES, ControlBasis, ScoringConfig
from hsae.hierarchy.controls.bases import DenseBasis, SomeImages, control_basis
from hsae.hierarchy.controls.thinning import n_kept_like, thin, unthinned_auroc
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.labelled_parts import LabelledPart, chosen_pairs, labelled_parts, rank_parts
from hsae.hierarchy.latent_hierarchy.edges import EdgeRules, LatentTraits, latent_hierarchy
from hsae.hierarchy.scored_activations import BasisActivations, LabelledImages, SaeActivations
from hsae.hierarchy.scores.associations import associated_classes
from hsae.hierarchy.scores.latent_scores import latent_places, latent_table, mean_lca_depth
from hsae.hierarchy.scores.layer_scores import layer_scores
from hsae.hierarchy.scores.monosemanticity import monosemanticity
from hsae.hierarchy.scores.node_scores import NodeScores, NodeSums, score_pairs
from hsae.hierarchy.scores.ranking_scores import RankingScores, ranking_scores
from hsae.hierarchy.scores.shortlist import Shortlist
from hsae.hierarchy.statistics.class_sums import ClassSums, sum_by_class
from hsae.hierarchy.statistics.label_sets import checked_labels
from hsae.hierarchy.statistics.ranks import rank_activations

_DIRECTIONS: tuple[ControlBasis, ...] = ("pca", "random")
Progress = Callable[[int, int], None]
"""Called with (latents done, latents in all); raising in it stops the analysis."""


def score_bases(
    sae: SaeActivations,
    images: LabelledImages,
    scoring: ScoringConfig,
    *,
    device: Device = "cpu",
    progress: Progress | None = None,
) -> list[BasisResult]:
    """Score an SAE and its controls: `sae`, the control bases, the label shuffles, the taxonomy shuffles.

    Directions (`pca`, `random`) are left out where images have several tokens: they would be pooled by another rule
    than the latents (ours).

    Args:
        sae: the SAE's latents and what its controls are made of.
        images: labels and taxonomy of the same images.
        scoring: threshold, controls, shuffles and seeds. Of each kind of shuffle the first has `scoring.seed`, the next
            `scoring.seed + 1`; it is also the seed of random directions and clusters. The threshold is that of the SAE:
            a column of a control fires where thinning left it.
        device: where activations are ranked and pairs scored.
        progress: called as the latents of all bases are done, and in between; may raise to stop.

    Raises:
        UserError: activations are NaN, infinite or negative, or they and the labels do not fit the taxonomy.
    """
    n_images, n_latents = sae.z.shape
    if sae.neurons.shape[0] != n_images:
        raise UserError(
            f"latent activations of {n_images} images and neuron activations of {sae.neurons.shape[0]}: "
            "give both of the same images"
        )
    if images.embeddings is None:
        images = replace(images, embeddings=sae.neurons)
    ranked, selecting = rank_parts(sae.z, images.parts, threshold=scoring.threshold, device=device)
    n_kept = n_kept_like(selecting.n_fire, selecting.n_images)
    left_out = () if sae.pooled_neurons is None else _DIRECTIONS
    seed, repeats = scoring.seed, range(scoring.n_shuffles)
    runs: list[tuple[Basis, int, DenseBasis | None]] = [("sae", 0, None)]
    runs += [
        (control, 0, _control(control, sae, n_latents, seed))
        for control in CONTROL_BASES
        if control in scoring.controls and control not in left_out
    ]
    runs += [("shuffled_labels", seed + repeat, None) for repeat in repeats]
    runs += [("shuffled_taxonomy", seed + repeat, None) for repeat in repeats]
    n_total = sum(n_latents if dense is None else dense.n_columns for _, _, dense in runs)
    n_before = 0

    def report(n_done: int, _: int) -> None:
        if progress is not None:
            progress(n_before + n_done, n_total)

    def check() -> None:
        report(0, 0)

    results: list[BasisResult] = []
    known = None  # the shuffled bases have the SAE's latents, and so their monosemanticity
    for basis, run_seed, dense in runs:
        if dense is None:
            given = BasisActivations(
                basis, ranked, run_seed, decoder=sae.decoder, monosemanticity=known, selecting=selecting
            )
        else:
            parts = rank_parts(thin(dense, n_kept, check=check), images.parts, device=device)
            given = BasisActivations(basis, parts[0], run_seed, dense, selecting=parts[1])
        results.append(score_basis(given, images, scoring, device=device, progress=report))
        if basis == "sae" and results[0].latents is not None:
            known = results[0].latents.monosemanticity
        n_before += given.ranked.n_latents
    if images.parts is not None:
        results[0] = replace(results[0], class_sums=_sums_of_all(sae, images, scoring, device))
    return results


def _control(control: ControlBasis, sae: SaeActivations, n_latents: int, seed: int) -> DenseBasis:
    return control_basis(control, sae.neurons, sae.untrained, sae.pooled_neurons, n_latents=n_latents, seed=seed)


def _sums_of_all(sae: SaeActivations, images: LabelledImages, scoring: ScoringConfig, device: Device) -> ClassSums:
    """The SAE's sums by class over all images, from which an export makes the scores of every pair."""
    ranked = rank_activations(sae.z, threshold=scoring.threshold, device=device)
    labels = checked_labels(images.labels, ranked.n_images, len(images.taxonomy.classes))
    everything = LabelledPart.of(ranked, labels, images.taxonomy, device=device)
    return everything.sums.with_label_sets(everything.sets)


def score_basis(
    given: BasisActivations,
    images: LabelledImages,
    scoring: ScoringConfig,
    *,
    device: Device = "cpu",
    progress: Progress | None = None,
) -> BasisResult:
    """Score one basis.

    Args:
        given: the basis.
        images: with the labels unshuffled; the shuffled bases shuffle them by `given.seed`.
        scoring: the rule that associates classes with latents, and the seed of the random clusters that siblings are
            compared with.
        device: where pairs are scored.
        progress: called as latents are done, and in between; may raise to stop.

    Raises:
        UserError: as for `score_bases`.
    """
    ranked, basis, taxonomy = given.ranked, given.basis, images.taxonomy
    is_shuffled = basis in ("shuffled_labels", "shuffled_taxonomy")
    parts = labelled_parts(given, images, device=device)
    labels, sets, sums = parts.scored.labels, parts.scored.sets, parts.scored.sums
    scored = None if images.parts is None else images.parts.score
    class_sums = sum_by_class(ranked, labels, len(taxonomy.classes), device=device) if sp.issparse(labels) else sums
    n_done = 0

    def check() -> None:
        on_block(0)

    def on_block(n_latents: int) -> None:
        nonlocal n_done
        n_done += n_latents
        if progress is not None:
            progress(n_done, ranked.n_latents)

    chosen = chosen_pairs(parts, taxonomy, everything=not is_shuffled, device=device, on_block=on_block)
    node_sums = NodeSums(sums, sets.closure, device=device)
    scores = score_pairs(node_sums, chosen.latents, chosen.nodes, chosen.family)
    ranking = ranking_scores(ranked, sets.of_image, sets.closure, chosen.latents, chosen.nodes, check=check)
    auroc_dense = np.full(len(chosen.latents), np.nan)
    if given.dense is not None:
        dense = given.dense if scored is None else SomeImages(given.dense, scored)
        auroc_dense = unthinned_auroc(
            dense, sets.of_image, sets.closure, chosen.latents, chosen.nodes, device=device, check=check
        )
    rules = (scoring.association,) if is_shuffled else ASSOCIATION_RULES
    places = {rule: latent_places(associated_classes(rule, ranked, class_sums, labels), taxonomy) for rule in rules}
    latents = None
    monosemantic = given.monosemanticity
    if monosemantic is None:
        monosemantic = np.full(ranked.n_latents, np.nan)
        if images.embeddings is not None:
            embeddings = images.embeddings if scored is None else images.embeddings[scored]
            monosemantic = monosemanticity(ranked, embeddings, check=check)
    if not is_shuffled:
        label_scores = _label_scores(chosen.label, chosen.latents, chosen.nodes, scores)
        lca_depth = mean_lca_depth(ranked.top_images, labels, taxonomy)
        associated = places[scoring.association]
        latents = latent_table(ranked, class_sums, associated, chosen.label, label_scores, monosemantic, lca_depth)
        if scored is not None:
            latents = replace(latents, top_images=_among_all(ranked.top_images, scored))
    # A latent that fires on none of the scored images has no edges there.
    fires = ranked.n_fire[np.maximum(chosen.node_best_latent, 0)] > 0
    edges, families = latent_hierarchy(
        ranked,
        taxonomy,
        np.where(fires, chosen.node_best_latent, -1),
        chosen.node_best_f1_selected,
        LatentTraits(monosemantic, given.decoder),
        EdgeRules(sources=("taxonomy",) if is_shuffled else EDGE_SOURCES, seed=scoring.seed),
        check=check,
    )
    return BasisResult(
        basis=basis,
        seed=given.seed,
        nodes=_node_table(chosen, scores, ranking, auroc_dense),
        latents=latents,
        places=places,
        edges=edges,
        families=families,
        layer=layer_scores(ranked, places[scoring.association], chosen, node_sums.n_node.astype(np.int64), taxonomy),
        class_sums=sums.with_label_sets(sets) if basis == "sae" else None,
    )


def _among_all(
    top_images: Int32[np.ndarray, "n_latents n_top"], scored: Int64[np.ndarray, "n_score"]
) -> Int32[np.ndarray, "n_latents n_top"]:
    """Positions among all images in place of those among the scored ones; -1 stays."""
    return np.where(top_images >= 0, scored[np.maximum(top_images, 0)], -1).astype(np.int32)


def _node_table(
    chosen: Shortlist, scores: NodeScores, ranking: RankingScores, auroc_dense: Float64[np.ndarray, "n_pairs"]
) -> NodeTable:
    columns = {field.name: getattr(part, field.name) for part in (scores, ranking) for field in fields(part)}
    for name in ("n_images", "n_fire", "n_both"):
        columns[name] = columns[name].astype(np.int32)
    return NodeTable(
        latent=chosen.latents,
        node=chosen.nodes,
        is_node_best=chosen.node_best_latent[chosen.nodes] == chosen.latents,
        auroc_dense=auroc_dense,
        **columns,
    )


def _label_scores(
    label: Int32[np.ndarray, "n_latents"],
    latents: Int32[np.ndarray, "n_pairs"],
    nodes: Int32[np.ndarray, "n_pairs"],
    scores: NodeScores,
) -> NodeScores:
    """Scores of the labels, which are all on the shortlist, in the order of the latents that have one."""
    labelled = np.flatnonzero(label >= 0)
    n_nodes = int(max(nodes.max(initial=0), label.max(initial=0))) + 1
    keys = latents.astype(np.int64) * n_nodes + nodes
    at = np.searchsorted(keys, labelled * n_nodes + label[labelled])
    return NodeScores(**{field.name: getattr(scores, field.name)[at] for field in fields(scores)})
