"""Scores of every latent: LCH and coverage, label, statistics of the images on which it fires."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Float64, Int32

from hsae.hierarchy.coherence.scores import LatentCoherence
from hsae.hierarchy.scores.pair_sums import NodeScores
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.hierarchy.statistics.label_sets import Labels, label_sets
from hsae.hierarchy.statistics.ranks import RankedActivations
from hsae.taxonomy import InducedTaxonomy


@dataclass(frozen=True, slots=True, eq=False)
class LatentTable(LatentCoherence):
    """One row per latent, including dead ones; NaN and -1 where undefined. The first columns are `LatentCoherence`'s.

    `lch_height`, `lch_depth` and `coverage` depend on how many classes and images a latent has; `lch_excess` does not.

    Attributes:
        latent: index of the latent.
        n_fire: number of images on which it fires.
        density: share of the images on which it fires.
        mean_activation: mean over the images on which it fires.
        max_activation: its strongest activation.
        is_dead: whether it fires on no image.
        n_associated: number of associated classes `|K_j|`.
        lch: lowest common hypernym of `K_j` (index into `InducedTaxonomy.synsets`): among all nodes above every class
            of `K_j`, the one with the least height (arXiv 2505.15970; the tie rule is ours).
        lch_height: its height (a leaf: 0).
        lch_height_relative: its height over the root's, 0 to 1.
        lch_depth: its depth (the root: 0).
        coverage: ontological coverage `|K_j ∩ L_v| / |L_v|` at `v = lch` (arXiv 2505.15970): the share of the classes
            under `lch` that are associated.
        label: node with the best F1; ties: the deeper node, then the smaller id.
        label_f1: F1 of the label.
        label_f1_adjusted: F1 of the label, corrected for the size of the node.
        label_q: q-value that the label would have if this latent were its best: corrected for all latents and all nodes
            (`NodeTests.q_of`).
        label_precision: precision of the label.
        label_recall: recall of the label.
        label_auroc: AUROC of the label.
        class_entropy: entropy in bits of the classes of the images on which it fires.
        monosemanticity: monosemanticity score.
        lca_depth_mean: mean depth of the lowest common hypernym of two of its strongest images.
        top_images: row numbers of its strongest images, strongest first; padded with -1.
        top_activations: their activations, padded with 0.
    """

    latent: Int32[np.ndarray, "n_latents"]
    n_fire: Int32[np.ndarray, "n_latents"]
    density: Float64[np.ndarray, "n_latents"]
    mean_activation: Float64[np.ndarray, "n_latents"]
    max_activation: Float64[np.ndarray, "n_latents"]
    is_dead: Bool[np.ndarray, "n_latents"]
    n_associated: Int32[np.ndarray, "n_latents"]
    lch: Int32[np.ndarray, "n_latents"]
    lch_height: Float64[np.ndarray, "n_latents"]
    lch_height_relative: Float64[np.ndarray, "n_latents"]
    lch_depth: Float64[np.ndarray, "n_latents"]
    coverage: Float64[np.ndarray, "n_latents"]
    label: Int32[np.ndarray, "n_latents"]
    label_f1: Float64[np.ndarray, "n_latents"]
    label_f1_adjusted: Float64[np.ndarray, "n_latents"]
    label_q: Float64[np.ndarray, "n_latents"]
    label_precision: Float64[np.ndarray, "n_latents"]
    label_recall: Float64[np.ndarray, "n_latents"]
    label_auroc: Float64[np.ndarray, "n_latents"]
    class_entropy: Float64[np.ndarray, "n_latents"]
    monosemanticity: Float64[np.ndarray, "n_latents"]
    lca_depth_mean: Float64[np.ndarray, "n_latents"]
    top_images: Int32[np.ndarray, "n_latents n_top"]
    top_activations: Float32[np.ndarray, "n_latents n_top"]


@dataclass(frozen=True, slots=True, eq=False)
class ImageSimilarity:
    """How similar the images of every latent are, by each measure; NaN where undefined.

    Attributes:
        monosemanticity: from `monosemanticity`.
        lca_depth_mean: from `mean_lca_depth`.
        coherence: from `coherence_scores`.
    """

    monosemanticity: Float64[np.ndarray, "n_latents"]
    lca_depth_mean: Float64[np.ndarray, "n_latents"]
    coherence: LatentCoherence


@dataclass(frozen=True, slots=True, eq=False)
class LatentPlaces:
    """LCH and coverage of every latent; NaN and -1 for a latent without associated classes.

    LCH height and ontological coverage are those of arXiv 2505.15970; see `LatentTable` for the formulas.

    Attributes:
        n_associated: number of associated classes `|K_j|`.
        lch: their lowest common hypernym.
        height: its height (a leaf: 0).
        height_relative: its height over the root's, 0 to 1.
        depth: its depth (the root: 0).
        coverage: `|K_j ∩ L_v| / |L_v|` at `v = lch`.
    """

    n_associated: Int32[np.ndarray, "n_latents"]
    lch: Int32[np.ndarray, "n_latents"]
    height: Float64[np.ndarray, "n_latents"]
    height_relative: Float64[np.ndarray, "n_latents"]
    depth: Float64[np.ndarray, "n_latents"]
    coverage: Float64[np.ndarray, "n_latents"]


def latent_places(associated: "sp.csr_array[np.bool_]", taxonomy: InducedTaxonomy) -> LatentPlaces:
    """Lowest common hypernym of every latent's associated classes, and their coverage of it.

    `v = LCH(j)` is the common hypernym of `K_j` with the least height, its ontological coverage
    `|K_j ∩ L_v| / |L_v|`, with `L_v` the classes at or under `v` (arXiv 2505.15970; the tie rule is ours: fewest
    classes, then the smallest id).

    Args:
        associated: the classes `K_j`, bool[n_latents, n_classes].
        taxonomy: the induced taxonomy of the classes.
    """
    n_associated = np.diff(associated.indptr).astype(np.int32)
    lch = np.asarray(taxonomy.lch_many(associated), np.int32)
    root_height = int(taxonomy.height[taxonomy.root])
    height = _at(taxonomy.height, lch)
    return LatentPlaces(
        n_associated=n_associated,
        lch=lch,
        height=height,
        height_relative=height / (root_height if root_height > 0 else np.nan),
        depth=_at(taxonomy.depth, lch),
        # All classes of K_j lie under their common hypernym, so |K_j ∩ L_v| is |K_j|.
        coverage=n_associated / _at(taxonomy.leaf_counts, lch),
    )


def class_entropy(sums: ClassSums) -> Float64[np.ndarray, "n_latents"]:
    """Entropy in bits of the classes of the images on which a latent fires; NaN if it never fires.

    With `p_l = n_fire[j, l] / N_j` it is `-sum_l p_l log2 p_l`; 0 for a latent that fires on one class only. An image
    with several classes counts once for each class, also in `N_j` (ours).

    Args:
        sums: sums by class (not by label set).
    """
    n_fire = sums.latent_fire_counts()
    latent = np.repeat(np.arange(sums.n_latents), np.diff(sums.indptr))
    share = sums.n_fire / np.maximum(n_fire[latent], 1)
    terms = np.where(share > 0, -share * np.log2(np.where(share > 0, share, 1.0)), 0.0)
    return np.where(n_fire > 0, np.bincount(latent, terms, minlength=sums.n_latents), np.nan)


def mean_lca_depth(
    top_images: Int32[np.ndarray, "n_latents n_top"],
    labels: Labels,
    taxonomy: InducedTaxonomy,
) -> Float64[np.ndarray, "n_latents"]:
    """Mean depth of the lowest common hypernym of two images, over all pairs of a latent's strongest images.

    The depth measure of arXiv 2504.02821. For two images of one class it is the class itself. Among several common
    hypernyms, the lowest is that of `InducedTaxonomy.lch`: the one with the least height (ours). For images with
    several classes it is the lowest node that is above both images (ours).

    Args:
        top_images: the strongest images of every latent, padded with -1.
        labels: from `checked_labels`.
        taxonomy: the induced taxonomy of the classes.

    Returns:
        NaN for a latent with fewer than two images.
    """
    n_latents, n_top = top_images.shape
    sets = label_sets(labels, taxonomy)
    left, right = np.triu_indices(n_top, k=1)
    latent, pair = np.nonzero((top_images[:, left] >= 0) & (top_images[:, right] >= 0))
    both = np.stack([sets.of_image[top_images[latent, side[pair]]] for side in (left, right)])
    cells, which = np.unique(both.min(axis=0) * sets.n_sets + both.max(axis=0), return_inverse=True)
    members = np.stack(np.divmod(cells, sets.n_sets), axis=1).ravel()
    indptr = np.arange(0, len(members) + 1, 2)
    pairs = sp.csr_array((np.ones(len(members), np.int32), members, indptr), shape=(len(cells), sets.n_sets))
    depth = taxonomy.depth[taxonomy.lowest_common(pairs, sets.closure)][which]
    n_pairs = np.bincount(latent, minlength=n_latents)
    return np.bincount(latent, depth, minlength=n_latents) / np.where(n_pairs == 0, np.nan, n_pairs)


@dataclass(frozen=True, slots=True, eq=False)
class LatentLabels:
    """The labels of the latents.

    Attributes:
        node: best node of every latent, -1 for a dead latent.
        scores: scores of the labels, for the latents that have one, in their order.
        q: q-values of the same labels (`NodeTests.q_of`).
    """

    node: Int32[np.ndarray, "n_latents"]
    scores: NodeScores
    q: Float64[np.ndarray, "n_labelled"]


def latent_table(
    ranked: RankedActivations,
    sums: ClassSums,
    places: LatentPlaces,
    labels: LatentLabels,
    similarity: ImageSimilarity,
) -> LatentTable:
    """Assemble the columns.

    Args:
        ranked: activations of every latent.
        sums: sums by class (not by label set).
        places: from `latent_places`.
        labels: their labels.
        similarity: how similar the latents' images are.
    """
    n_latents = ranked.n_latents
    has_label = labels.node >= 0

    def spread(scores: Float64[np.ndarray, "n_labelled"]) -> Float64[np.ndarray, "n_latents"]:
        values = np.full(n_latents, np.nan)
        values[has_label] = scores
        return values

    is_dead = ranked.n_fire == 0
    n_fire_or_nan = np.where(is_dead, np.nan, ranked.n_fire)
    return LatentTable(
        **similarity.coherence.columns(),
        latent=np.arange(n_latents, dtype=np.int32),
        n_fire=ranked.n_fire.astype(np.int32),
        density=ranked.n_fire / ranked.n_images,
        mean_activation=ranked.fire_mass / n_fire_or_nan,
        max_activation=np.where(is_dead, np.nan, ranked.top_activations[:, 0]),
        is_dead=is_dead,
        n_associated=places.n_associated,
        lch=places.lch,
        lch_height=places.height,
        lch_height_relative=places.height_relative,
        lch_depth=places.depth,
        coverage=places.coverage,
        label=labels.node,
        label_f1=spread(labels.scores.f1),
        label_f1_adjusted=spread(labels.scores.f1_adjusted),
        label_q=spread(labels.q),
        label_precision=spread(labels.scores.precision),
        label_recall=spread(labels.scores.recall),
        label_auroc=spread(labels.scores.auroc),
        class_entropy=class_entropy(sums),
        monosemanticity=similarity.monosemanticity,
        lca_depth_mean=similarity.lca_depth_mean,
        top_images=ranked.top_images,
        top_activations=ranked.top_activations,
    )


def _at(
    values: Int32[np.ndarray, "n_nodes"], nodes: Int32[np.ndarray, "n_latents"]
) -> Float64[np.ndarray, "n_latents"]:
    """The values of the nodes; NaN for node -1."""
    return np.where(nodes >= 0, values[nodes], np.nan)
