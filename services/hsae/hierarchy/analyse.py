"""One analysis: a trained SAE's latents and their controls, scored against the taxonomy."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int32

from hsae.errors import UserError
from hsae.hierarchy.associations import ASSOCIATION_RULES, AssociationRule, associated_classes
from hsae.hierarchy.class_sums import ClassSums, sum_by_class
from hsae.hierarchy.controls import (
    n_kept_like,
    shuffle_labels,
    shuffle_taxonomy,
    thin_neurons,
    unthinned_auroc,
)
from hsae.hierarchy.device_kernels import Device
from hsae.hierarchy.label_sets import Labels, checked_labels, label_sets
from hsae.hierarchy.latent_scores import LatentPlaces, LatentTable, latent_places, latent_table, mean_lca_depth
from hsae.hierarchy.layer_scores import LayerScores, layer_scores
from hsae.hierarchy.monosemanticity import monosemanticity
from hsae.hierarchy.node_scores import NodeScores, NodeSums, score_pairs
from hsae.hierarchy.ranking_scores import RankingScores, ranking_scores
from hsae.hierarchy.ranks import RankedActivations, rank_activations
from hsae.hierarchy.shortlist import node_priority, shortlist
from hsae.taxonomy import InducedTaxonomy

Basis = Literal["sae", "neuron", "shuffled_labels", "shuffled_taxonomy"]

Progress = Callable[[int, int], None]
"""Called with (latents done, latents in all); raising in it stops the analysis."""


@dataclass(frozen=True, slots=True, eq=False)
class NodeTable:
    """One row per shortlisted pair, sorted by latent, then node; NaN stands for what is undefined.

    Attributes:
        latent: index of the latent.
        node: index into `InducedTaxonomy.synsets`.
        n_images: images under the node.
        n_fire: images on which the latent fires.
        n_both: images under the node on which it fires.
        precision: `n_both / n_fire`.
        recall: `n_both / n_images`.
        f1: their harmonic mean.
        auroc: area under the ROC curve of the activation.
        auroc_dense: the same of the raw neuron before thinning; only in the basis `neuron`.
        z: Mann-Whitney z-score, ties corrected.
        p: two-sided p-value.
        q: Benjamini-Hochberg q-value over all pairs of the basis.
        average_precision: of the activation as a ranking of the images.
        best_f1: greatest F1 that a threshold above 0 gives.
        best_threshold: the activation from which on the latent then fires.
        mass_share: share of the latent's activation mass under the node.
        mean_inside: mean activation under the node.
        mean_outside: mean activation elsewhere.
    """

    latent: Int32[np.ndarray, "n_pairs"]
    node: Int32[np.ndarray, "n_pairs"]
    n_images: Int32[np.ndarray, "n_pairs"]
    n_fire: Int32[np.ndarray, "n_pairs"]
    n_both: Int32[np.ndarray, "n_pairs"]
    precision: Float64[np.ndarray, "n_pairs"]
    recall: Float64[np.ndarray, "n_pairs"]
    f1: Float64[np.ndarray, "n_pairs"]
    auroc: Float64[np.ndarray, "n_pairs"]
    auroc_dense: Float64[np.ndarray, "n_pairs"]
    z: Float64[np.ndarray, "n_pairs"]
    p: Float64[np.ndarray, "n_pairs"]
    q: Float64[np.ndarray, "n_pairs"]
    average_precision: Float64[np.ndarray, "n_pairs"]
    best_f1: Float64[np.ndarray, "n_pairs"]
    best_threshold: Float64[np.ndarray, "n_pairs"]
    mass_share: Float64[np.ndarray, "n_pairs"]
    mean_inside: Float64[np.ndarray, "n_pairs"]
    mean_outside: Float64[np.ndarray, "n_pairs"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class BasisResult:
    """Everything that one basis of one layer gave.

    Attributes:
        basis: what was scored.
        seed: seed of the shuffle; 0 where nothing is shuffled.
        nodes: the shortlisted pairs; of a shuffled basis only the best latent of each node by F1.
        latents: one row per latent; None for a shuffled basis.
        places: the latents' places in the taxonomy by every association rule; of a shuffled basis by the one asked for.
        layer: the row of the layer.
        class_sums: what `iter_node_scores` makes every pair's scores from; only of the basis `sae`. Where images have
            several labels, by label set: its closure is that of `label_sets`.
    """

    basis: Basis
    seed: int
    nodes: NodeTable
    latents: LatentTable | None
    places: dict[AssociationRule, LatentPlaces]
    layer: LayerScores
    class_sums: ClassSums | None


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
    device: Device = "cpu",
    progress: Progress | None = None,
) -> list[BasisResult]:
    """Score an SAE and its controls: `sae`, `neuron`, the label shuffles, the taxonomy shuffles.

    Args:
        z: latent activations, float32[n_images, n_latents], not negative; whole or as shards of rows in their order,
            which are gone through once.
        labels: class of every image, a position in `taxonomy.classes`; or, where images have several, bool or
            integers [n_images, n_classes] in CSR form.
        taxonomy: the induced taxonomy of the data set's classes.
        neurons: the activations that the SAE was given, of the same images.
        embeddings: what the monosemanticity score measures the likeness of images in; by default `neurons`.
        seed: seed of the first shuffle of each kind; the next has `seed + 1`.
        threshold: an SAE latent fires where its activation is greater; a raw neuron where thinning left it.
        n_label_shuffles: how often the labels are shuffled.
        n_taxonomy_shuffles: how often the classes are shuffled over the tree.
        association: the rule by which the latent and layer rows associate classes with latents.
        device: where activations are ranked and pairs scored.
        progress: called as the latents of all bases are done; may raise to stop.

    Raises:
        UserError: activations are NaN, infinite or negative, or they and the labels do not fit the taxonomy.
    """
    ranked = rank_activations(z, threshold=threshold, device=device)
    n_images = ranked.n_images
    if neurons.shape[0] != n_images:
        raise UserError(
            f"latent activations of {n_images} images and neuron activations of {neurons.shape[0]}: "
            "give both of the same images"
        )
    thinned = rank_activations(thin_neurons(neurons, n_kept_like(ranked.n_fire, n_images)), device=device)
    runs: list[tuple[Basis, int, RankedActivations]] = [("sae", 0, ranked), ("neuron", 0, thinned)]
    runs += [("shuffled_labels", seed + repeat, ranked) for repeat in range(n_label_shuffles)]
    runs += [("shuffled_taxonomy", seed + repeat, ranked) for repeat in range(n_taxonomy_shuffles)]
    n_total = sum(run[2].n_latents for run in runs)
    n_before = 0

    def report(n_done: int, _: int) -> None:
        if progress is not None:
            progress(n_before + n_done, n_total)

    results = []
    for basis, run_seed, activations in runs:
        results.append(
            analyse_basis(
                activations,
                labels,
                taxonomy,
                basis=basis,
                seed=run_seed,
                association=association,
                neurons=neurons if basis == "neuron" else None,
                embeddings=neurons if embeddings is None else embeddings,
                device=device,
                progress=report,
            )
        )
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
    neurons: Float32[np.ndarray, "n_images d_model"] | None = None,
    embeddings: Float32[np.ndarray, "n_images d_embedding"] | None = None,
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
        neurons: with the basis `neuron`, the activations before thinning, for `auroc_dense`.
        embeddings: one per image, for the monosemanticity score, which is NaN without them.
        device: where activations are ranked and pairs scored.
        progress: called as latents are done; may raise to stop.

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
    ranking = ranking_scores(ranked, sets.of_image, sets.closure, chosen.latents, chosen.nodes)
    auroc_dense = np.full(len(chosen.latents), np.nan)
    if neurons is not None:
        auroc_dense = unthinned_auroc(neurons, sets.of_image, sets.closure, chosen.latents, chosen.nodes)
    rules = (association,) if is_shuffled else ASSOCIATION_RULES
    places = {rule: latent_places(associated_classes(rule, ranked, class_sums, labels), taxonomy) for rule in rules}
    latents = None
    if not is_shuffled:
        label_scores = _label_scores(chosen.label, chosen.latents, chosen.nodes, scores)
        alike = np.full(ranked.n_latents, np.nan) if embeddings is None else monosemanticity(ranked, embeddings)
        lca_depth = mean_lca_depth(ranked.top_images, labels, taxonomy)
        latents = latent_table(ranked, class_sums, places[association], chosen.label, label_scores, alike, lca_depth)
    return BasisResult(
        basis=basis,
        seed=seed,
        nodes=_node_table(chosen.latents, chosen.nodes, scores, ranking, auroc_dense),
        latents=latents,
        places=places,
        layer=layer_scores(ranked, places[association], chosen, node_sums.n_node.astype(np.int64), taxonomy),
        class_sums=sums if basis == "sae" else None,
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
