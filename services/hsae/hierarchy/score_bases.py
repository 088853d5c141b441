"""One analysis: a trained SAE's latents and their controls, scored against the taxonomy."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int32, Int64

from hsae.errors import UserError
from hsae.hierarchy.absorbed_nodes import absorbed_nodes, written_images
from hsae.hierarchy.baselines import Baselines, wanted_baselines
from hsae.hierarchy.basis_result import BasisResult, node_table
from hsae.hierarchy.coherence.chance import Chances
from hsae.hierarchy.coherence.scores import coherence_scores
from hsae.hierarchy.coherence.tree_permutations import layer_p
from hsae.hierarchy.config import ASSOCIATION_RULES, EDGE_SOURCES, ScoringConfig
from hsae.hierarchy.controls.dense_auroc import dense_auroc
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.labelled_parts import chosen_pairs, labelled_parts, rank_parts, sums_of_all
from hsae.hierarchy.latent_hierarchy.edges import EdgeRules, NodeLatents, latent_hierarchy
from hsae.hierarchy.latent_hierarchy.families import LatentTraits
from hsae.hierarchy.resampled_basis import measured_basis, resampled_headlines
from hsae.hierarchy.scored_activations import BasisActivations, LabelledImages, SaeActivations
from hsae.hierarchy.scores.associations import associated_classes
from hsae.hierarchy.scores.latent_scores import (
    ImageSimilarity,
    LatentLabels,
    latent_places,
    latent_table,
    mean_lca_depth,
)
from hsae.hierarchy.scores.layer_scores import layer_scores
from hsae.hierarchy.scores.monosemanticity import monosemanticity
from hsae.hierarchy.scores.node_scores import NodeSums, score_pairs
from hsae.hierarchy.scores.node_tests import node_tests
from hsae.hierarchy.scores.pair_sums import NodeScores
from hsae.hierarchy.scores.ranking_scores import ranking_scores
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.distinct_nodes import distinct_nodes
from hsae.hierarchy.statistics.label_sets import checked_labels, classes_of
from hsae.vocabulary.bases import SHUFFLED_BASES, Basis

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

    Baselines that are defined for one token alone are left out where images have several: they would be pooled by
    another rule than the latents (ours).

    Args:
        sae: the SAE's latents and what its controls are made of.
        images: labels and taxonomy of the same images.
        scoring: threshold, controls, shuffles and seeds. Of each kind of shuffle, and of what is drawn, the first has
            `scoring.seed`, the next `scoring.seed + 1`; it is also the seed of random clusters. The threshold is that
            of the SAE: every column of a control has its own.
        device: where activations are ranked and pairs scored.
        progress: called as the latents of all bases are done, and in between; may raise to stop.

    Raises:
        UserError: activations are NaN, infinite or negative, or they and the labels do not fit the taxonomy.
    """
    n_latents = sae.z.shape[1]
    _check_images(sae, images)
    if images.embeddings is None:
        images = replace(images, embeddings=sae.neurons)
    images = replace(images, chances=Chances(images.taxonomy, scoring.seed))
    ranked, selecting = rank_parts(sae.z, images.parts, threshold=scoring.threshold, device=device)
    written = written_images(sae, images, scoring.threshold)
    wanted = wanted_baselines(scoring, has_several_tokens=sae.pooled_neurons is not None)
    shuffles: list[tuple[Basis, int]] = [
        (basis, scoring.seed + repeat) for basis in SHUFFLED_BASES for repeat in range(scoring.n_shuffles)
    ]
    n_done_before, n_total = 0, n_latents * (1 + len(wanted) + len(shuffles))

    def report(n_done: int, n_of_basis: int) -> None:
        """Every basis counts as the SAE's does, however many columns it has."""
        if progress is not None:
            progress(n_done_before + n_done * n_latents // n_of_basis, n_total)

    def check() -> None:
        report(0, 1)

    def score(given: BasisActivations | None) -> None:
        nonlocal n_done_before
        if given is not None:
            results.append(_score(given, images, scoring, device=device, progress=report))
        n_done_before += n_latents

    results: list[BasisResult] = []
    of_sae = BasisActivations("sae", ranked, decoder=sae.decoder, selecting=selecting, written=written)
    score(of_sae)
    if wanted:
        baselines = Baselines.of(sae, selecting, images, scoring, device=device, check=check)
        for control, draw in wanted:
            score(baselines.activations(control, draw))
    # The shuffled bases have the SAE's latents, and so their monosemanticity.
    known = None if results[0].latents is None else results[0].latents.monosemanticity
    for basis, seed in shuffles:
        score(replace(of_sae, basis=basis, seed=seed, monosemanticity=known))
    n_done_before = n_total
    results = _with_layer_p(results, images, check=check)
    n_least = min(result.layer.n_latents for result in results)
    results = [replace(result, layer=result.layer.rarefied_to(n_least, result.n_reaching)) for result in results]
    if images.parts is not None:
        results[0] = replace(results[0], class_sums=sums_of_all(sae.z, images, scoring.threshold, device))
    return results


def _check_images(sae: SaeActivations, images: LabelledImages) -> None:
    """Check that all activations are of the same images; images that only train may follow them."""
    n_images, parts = sae.z.shape[0], images.parts
    n_given = n_images if sae.neurons is None else len(sae.neurons)
    positions = () if parts is None else (parts.select, parts.score)
    train_apart = n_given > n_images and parts is not None and all((part < n_images).all() for part in positions)
    if n_given != n_images and not train_apart:
        raise UserError(
            f"latent activations of {n_images} images and neuron activations of {n_given}: give both of the same images"
        )


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
    if images.chances is None:
        images = replace(images, chances=Chances(images.taxonomy, scoring.seed))
    return _with_layer_p([_score(given, images, scoring, device=device, progress=progress)], images)[0]


def _with_layer_p(
    results: list[BasisResult], images: LabelledImages, *, check: Callable[[], None] = go_on
) -> list[BasisResult]:
    """The results with the p-values of their layers' coherence, all from the same permuted trees."""
    tested = [result.pair_weights for result in results if result.pair_weights is not None]
    if not tested or images.chances is None:
        return results
    n_classes = len(images.taxonomy.classes)
    labels = checked_labels(images.labels, images.labels.shape[0], n_classes)
    scored = np.arange(labels.shape[0]) if images.parts is None else images.parts.score
    null = images.chances.of(labels[scored])
    if null is None:
        return results
    sizes = np.bincount(classes_of(labels, scored)[1], minlength=n_classes)
    p = iter(layer_p(tested, null.resnik, sizes, null.keep, null.seed, check=check))
    return [
        result
        if result.pair_weights is None
        else replace(result, layer=replace(result.layer, coherence_p=next(p)), pair_weights=None)
        for result in results
    ]


def _score(
    given: BasisActivations,
    images: LabelledImages,
    scoring: ScoringConfig,
    *,
    device: Device,
    progress: Progress | None,
) -> BasisResult:
    """As `score_basis`, but for the p-value of the layer."""
    ranked, basis, taxonomy = given.ranked, given.basis, images.taxonomy
    is_brief = given.is_repeat or basis in SHUFFLED_BASES
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

    chosen = chosen_pairs(parts, taxonomy, everything=not is_brief, device=device, on_block=on_block)
    node_sums = NodeSums(sums, sets.closure, device=device)
    nodes = distinct_nodes(sets, labels, taxonomy)
    selecting = node_sums
    if not parts.in_sample:
        selecting = NodeSums(parts.selecting.sums, parts.selecting.sets.closure, device=device)
    tests = node_tests(node_sums, selecting, nodes, check=check)
    scores = score_pairs(node_sums, chosen.latents, chosen.nodes)
    ranking = ranking_scores(ranked, sets.of_image, sets.closure, chosen.latents, chosen.nodes, check=check)
    auroc_dense = np.full(len(chosen.latents), np.nan)
    if given.dense is not None:
        # Of the nodes' best columns: to rank all values of every column would take as long as everything else.
        best = np.flatnonzero(chosen.node_best_latent[chosen.nodes] == chosen.latents)
        pairs = (chosen.latents[best], chosen.nodes[best])
        auroc_dense[best] = dense_auroc(given.dense, sets.of_image, sets.closure, pairs, device=device, check=check)
    rules = {"topk", scoring.association} if is_brief else ASSOCIATION_RULES
    associated = {rule: associated_classes(rule, ranked, class_sums, labels) for rule in rules}
    placed_by = (scoring.association,) if is_brief else ASSOCIATION_RULES
    places = {rule: latent_places(associated[rule], taxonomy) for rule in placed_by}
    null = (images.chances or Chances(taxonomy, scoring.seed)).of(labels)
    latent_coherence, layer_coherence, pair_weights = coherence_scores(
        ranked, labels, len(taxonomy.classes), null, is_brief=is_brief
    )
    latents = None
    embeddings = images.embeddings if images.embeddings is None or scored is None else images.embeddings[scored]
    monosemantic = given.monosemanticity
    if monosemantic is None:
        monosemantic = np.full(ranked.n_latents, np.nan)
        if embeddings is not None and not given.is_repeat:
            monosemantic = monosemanticity(ranked, embeddings, check=check)
    if not is_brief:
        label_scores = _label_scores(chosen.label, chosen.latents, chosen.nodes, scores)
        named = LatentLabels(chosen.label, label_scores, tests.q_of(label_scores.p))
        similarity = ImageSimilarity(
            monosemantic, mean_lca_depth(ranked.top_images, labels, taxonomy), latent_coherence
        )
        latents = latent_table(ranked, class_sums, places[scoring.association], named, similarity)
        if scored is not None:
            latents = replace(latents, top_images=_among_all(ranked.top_images, scored))
    edges, families = latent_hierarchy(
        parts.selecting.ranked,
        ranked,
        taxonomy,
        # The columns of a repeat are not stored, and so no edges among them.
        NodeLatents(
            np.where(given.is_repeat, -1, chosen.node_best_latent),
            chosen.node_best_f1_selected,
            chosen.node_best_f1,
        ),
        LatentTraits(monosemantic, given.decoder, embeddings),
        EdgeRules(sources=("taxonomy",) if is_brief else EDGE_SOURCES, seed=scoring.seed),
        check=check,
    )
    measured = measured_basis(parts, chosen, nodes, associated, images, scoring)
    return BasisResult(
        basis=basis,
        seed=given.seed,
        nodes=node_table(chosen, (scores, ranking), auroc_dense, nodes, tests),
        latents=latents,
        places=places,
        edges=edges,
        families=families,
        absorption=absorbed_nodes(given, images, chosen, seed=scoring.seed, check=check),
        layer=layer_scores(ranked, places[scoring.association], chosen, nodes, tests, taxonomy, layer_coherence),
        n_reaching=tests.n_reaching[nodes.counts],
        class_sums=sums.with_label_sets(sets) if basis == "sae" else None,
        resampled=resampled_headlines(given, measured, scoring, check=check),
        pair_weights=pair_weights,
    )


def _among_all(
    top_images: Int32[np.ndarray, "n_latents n_top"], scored: Int64[np.ndarray, "n_score"]
) -> Int32[np.ndarray, "n_latents n_top"]:
    """Positions among all images in place of those among the scored ones; -1 stays."""
    return np.where(top_images >= 0, scored[np.maximum(top_images, 0)], -1).astype(np.int32)


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
