"""One analysis: a trained SAE's latents and their controls, scored against the taxonomy."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int32

from hsae.errors import UserError
from hsae.hierarchy.basis_result import Basis, BasisResult, NodeTable
from hsae.hierarchy.config import ASSOCIATION_RULES, CONTROL_BASES, AssociationRule, ControlBasis
from hsae.hierarchy.controls.bases import DenseBasis, control_basis
from hsae.hierarchy.controls.thinning import n_kept_like, shuffle_labels, shuffle_taxonomy, thin, unthinned_auroc
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.latent_hierarchy.edges import EDGE_SOURCES, latent_hierarchy
from hsae.hierarchy.scores.associations import associated_classes
from hsae.hierarchy.scores.latent_scores import latent_places, latent_table, mean_lca_depth
from hsae.hierarchy.scores.layer_scores import layer_scores
from hsae.hierarchy.scores.monosemanticity import monosemanticity
from hsae.hierarchy.scores.node_scores import NodeScores, NodeSums, score_pairs
from hsae.hierarchy.scores.ranking_scores import RankingScores, ranking_scores
from hsae.hierarchy.scores.shortlist import node_priority, shortlist
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.label_sets import Labels, checked_labels, label_sets
from hsae.hierarchy.statistics.ranks import RankedActivations, rank_activations
from hsae.taxonomy import InducedTaxonomy

Progress = Callable[[int, int], None]
"""Called with (latents done, latents in all); raising in it stops the analysis."""


def analyse(
    z: "sp.csr_array[np.float32] | Iterable[sp.csr_array[np.float32]]",
    labels: Labels,
    taxonomy: InducedTaxonomy,
    neurons: Float32[np.ndarray, "n_images d_model"],
    *,
    embeddings: Float32[np.ndarray, "n_images d_embedding"] | None = None,
    seed: int = 0,
    threshold: float = 0.0,
    n_label_shuffles: int = 2,
    n_taxonomy_shuffles: int = 2,
    association: AssociationRule = "topk",
    controls: Sequence[ControlBasis] = ("neuron", "pca", "random"),
    untrained: "sp.csr_array[np.float32] | None" = None,
    pooled_neurons: "sp.csr_array[np.float32] | None" = None,
    decoder: Float32[np.ndarray, "n_latents d_model"] | None = None,
    device: Device = "cpu",
    progress: Progress | None = None,
) -> list[BasisResult]:
    """Score an SAE and its controls: `sae`, the control bases, the label shuffles, the taxonomy shuffles.

    Args:
        z: latent activations, float32[n_images, n_latents], not negative; whole or as shards of rows in their order,
            which are gone through once.
        labels: class of every image, a position in `taxonomy.classes`; or, where images have several, bool or
            integers [n_images, n_classes] in CSR form.
        taxonomy: the induced taxonomy of the data set's classes.
        neurons: the activations that the SAE was given, of the same images.
        embeddings: what the monosemanticity score measures the likeness of images in; by default `neurons`.
        seed: seed of the first shuffle of each kind, the next has `seed + 1`; also of random directions and clusters.
        threshold: an SAE latent fires where its activation is greater; a column of a control where thinning left it.
        n_label_shuffles: how often the labels are shuffled.
        n_taxonomy_shuffles: how often the classes are shuffled over the tree.
        association: the rule by which the latent and layer rows associate classes with latents, see
            `associated_classes`.
        controls: which control bases are scored; their order does not matter. `pca` and `random` are made of `neurons`:
            of images with several tokens leave them out, for the latents are pooled by another rule (ours).
        untrained: with the control `untrained`, the latent activations of the SAE before its training, as `z`.
        pooled_neurons: of images with several tokens what the control `neuron` is made of: over an image's tokens the
            greatest positive part of every neuron, then the greatest negative parts, float32[n_images, 2 * d_model].
        decoder: the direction that every latent of the SAE writes, for the likeness of siblings, NaN without it.
        device: where activations are ranked and pairs scored.
        progress: called as the latents of all bases are done, and in between; may raise to stop.

    Raises:
        UserError: activations are NaN, infinite or negative, or they and the labels do not fit the taxonomy.
    """
    ranked = rank_activations(z, threshold=threshold, device=device)
    n_images, n_latents = ranked.n_images, ranked.n_latents
    if neurons.shape[0] != n_images:
        raise UserError(
            f"latent activations of {n_images} images and neuron activations of {neurons.shape[0]}: "
            "give both of the same images"
        )
    n_kept = n_kept_like(ranked.n_fire, n_images)
    runs: list[tuple[Basis, int, DenseBasis | None]] = [("sae", 0, None)]
    runs += [
        (control, 0, control_basis(control, neurons, untrained, pooled_neurons, n_latents=n_latents, seed=seed))
        for control in CONTROL_BASES
        if control in controls
    ]
    runs += [("shuffled_labels", seed + repeat, None) for repeat in range(n_label_shuffles)]
    runs += [("shuffled_taxonomy", seed + repeat, None) for repeat in range(n_taxonomy_shuffles)]
    n_total = sum(n_latents if dense is None else dense.n_columns for _, _, dense in runs)
    n_before = 0

    def report(n_done: int, _: int) -> None:
        if progress is not None:
            progress(n_before + n_done, n_total)

    def check() -> None:
        report(0, 0)

    results: list[BasisResult] = []
    alike = None  # the shuffled bases have the SAE's latents
    for basis, run_seed, dense in runs:
        activations = ranked if dense is None else rank_activations(thin(dense, n_kept, check=check), device=device)
        results.append(
            analyse_basis(
                activations,
                labels,
                taxonomy,
                basis=basis,
                seed=run_seed,
                association=association,
                dense=dense,
                embeddings=neurons if embeddings is None else embeddings,
                alike=alike if dense is None else None,
                decoder=decoder if dense is None else None,
                cluster_seed=seed,
                device=device,
                progress=report,
            )
        )
        if basis == "sae" and results[0].latents is not None:
            alike = results[0].latents.monosemanticity
        n_before += activations.n_latents
    return results


def analyse_basis(
    z: "sp.csr_array[np.float32] | Iterable[sp.csr_array[np.float32]] | RankedActivations",
    labels: Labels,
    taxonomy: InducedTaxonomy,
    *,
    basis: Basis,
    seed: int = 0,
    threshold: float = 0.0,
    association: AssociationRule = "topk",
    dense: DenseBasis | None = None,
    embeddings: Float32[np.ndarray, "n_images d_embedding"] | None = None,
    alike: Float64[np.ndarray, "n_latents"] | None = None,
    decoder: Float32[np.ndarray, "n_latents d_model"] | None = None,
    cluster_seed: int = 0,
    device: Device = "cpu",
    progress: Progress | None = None,
) -> BasisResult:
    """Score one basis.

    Args:
        z: activations of the basis, or the same ranked (they bring their own threshold).
        labels: class or classes of every image, unshuffled; the shuffled bases shuffle them by `seed`.
        taxonomy: the induced taxonomy.
        basis: what `z` is and whether something is shuffled.
        seed: seed of the shuffle.
        threshold: the firing rule is `z > threshold`.
        association: the rule by which the latent and layer rows associate classes with latents.
        dense: of a control basis, what was thinned to `z`, for `auroc_dense`.
        embeddings: one per image, for the monosemanticity score, which is NaN without them.
        alike: the monosemanticity scores, where they are known already.
        decoder: the direction that every latent writes, for the likeness of siblings, which is NaN without it.
        cluster_seed: seed of the random clusters that siblings are compared with.
        device: where activations are ranked and pairs scored.
        progress: called as latents are done, and in between; may raise to stop.

    Raises:
        UserError: as for `analyse`.
    """
    ranked = z if isinstance(z, RankedActivations) else rank_activations(z, threshold=threshold, device=device)
    n_classes = len(taxonomy.classes)
    labels = checked_labels(labels, ranked.n_images, n_classes)
    if basis == "shuffled_labels":
        labels = shuffle_labels(labels, seed)
    elif basis == "shuffled_taxonomy":
        labels = shuffle_taxonomy(labels, n_classes, seed)
    is_shuffled = basis in ("shuffled_labels", "shuffled_taxonomy")
    sets = label_sets(labels, taxonomy)
    sums = sum_by_class(ranked, sets.of_image, sets.n_sets, device=device)
    class_sums = sum_by_class(ranked, labels, n_classes, device=device) if sp.issparse(labels) else sums
    n_done = 0

    def check() -> None:
        on_block(0)

    def on_block(n_latents: int) -> None:
        nonlocal n_done
        n_done += n_latents
        if progress is not None:
            progress(n_done, ranked.n_latents)

    priority = node_priority(taxonomy)
    by_priority = NodeSums(sums, sp.csr_array(sets.closure[:, priority]), device=device)
    chosen = shortlist(by_priority, priority, everything=not is_shuffled, on_block=on_block)
    node_sums = NodeSums(sums, sets.closure, device=device)
    scores = score_pairs(node_sums, chosen.latents, chosen.nodes, chosen.family)
    ranking = ranking_scores(ranked, sets.of_image, sets.closure, chosen.latents, chosen.nodes, check=check)
    auroc_dense = np.full(len(chosen.latents), np.nan)
    if dense is not None:
        auroc_dense = unthinned_auroc(
            dense, sets.of_image, sets.closure, chosen.latents, chosen.nodes, device=device, check=check
        )
    rules = (association,) if is_shuffled else ASSOCIATION_RULES
    places = {rule: latent_places(associated_classes(rule, ranked, class_sums, labels), taxonomy) for rule in rules}
    latents = None
    if alike is None:
        alike = np.full(ranked.n_latents, np.nan)
        if embeddings is not None:
            alike = monosemanticity(ranked, embeddings, check=check)
    if not is_shuffled:
        label_scores = _label_scores(chosen.label, chosen.latents, chosen.nodes, scores)
        lca_depth = mean_lca_depth(ranked.top_images, labels, taxonomy)
        latents = latent_table(ranked, class_sums, places[association], chosen.label, label_scores, alike, lca_depth)
    edges, families = latent_hierarchy(
        ranked,
        taxonomy,
        chosen.node_best_latent,
        chosen.node_best_f1,
        sources=("taxonomy",) if is_shuffled else EDGE_SOURCES,
        monosemanticity=alike,
        decoder=decoder,
        seed=cluster_seed,
        check=check,
    )
    return BasisResult(
        basis=basis,
        seed=seed,
        nodes=_node_table(chosen.latents, chosen.nodes, scores, ranking, auroc_dense),
        latents=latents,
        places=places,
        edges=edges,
        families=families,
        layer=layer_scores(ranked, places[association], chosen, node_sums.n_node.astype(np.int64), taxonomy),
        class_sums=sums.with_label_sets(sets) if basis == "sae" else None,
    )


def _node_table(
    latents: Int32[np.ndarray, "n_pairs"],
    nodes: Int32[np.ndarray, "n_pairs"],
    scores: NodeScores,
    ranking: RankingScores,
    auroc_dense: Float64[np.ndarray, "n_pairs"],
) -> NodeTable:
    columns = {field.name: getattr(part, field.name) for part in (scores, ranking) for field in fields(part)}
    for name in ("n_images", "n_fire", "n_both"):
        columns[name] = columns[name].astype(np.int32)
    return NodeTable(latent=latents, node=nodes, auroc_dense=auroc_dense, **columns)


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
