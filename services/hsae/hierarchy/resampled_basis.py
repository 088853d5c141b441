"""The headline numbers of a scored basis again, with classes deleted and with shuffled taxonomies."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from hsae.hierarchy.coherence.chance import Chances
from hsae.hierarchy.coherence.purity import n_pure_classes
from hsae.hierarchy.config import MIN_PURE_CLASSES, AssociationRule, ScoringConfig
from hsae.hierarchy.controls.shuffles import class_places
from hsae.hierarchy.labelled_parts import LabelledPart, LabelledParts
from hsae.hierarchy.resampling.deleted_classes import kept_classes, replicate_headlines
from hsae.hierarchy.resampling.measured import Measured
from hsae.hierarchy.resampling.resampled import Quantity, Resampled
from hsae.hierarchy.resampling.tree_shuffles import shuffle_headlines
from hsae.hierarchy.scored_activations import BasisActivations, LabelledImages
from hsae.hierarchy.scores.shortlist import Shortlist
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.hierarchy.statistics.distinct_nodes import DistinctNodes


def resampled_headlines(
    given: BasisActivations, measured: Measured, scoring: ScoringConfig, *, check: Callable[[], None]
) -> Resampled:
    """Replicates of every basis; shuffled taxonomies of the trained SAE alone.

    Purity has replicates, and so an interval, only where enough classes carry it.

    Args:
        given: the basis.
        measured: from `measured_basis`.
        scoring: numbers of replicates and of shuffles, and their seed.
        check: called often; may raise to stop.
    """
    taxonomy = measured.taxonomy
    keep = kept_classes(taxonomy, scoring.n_replicates, scoring.seed)
    if given.basis == "shuffled_taxonomy":  # the same images are deleted, wherever their class is
        moved = np.empty_like(keep)
        moved[:, class_places(measured.has_images(), given.seed)] = keep
        keep = moved
    trees = {}
    if given.basis == "sae" and scoring.n_tree_shuffles:
        trees = shuffle_headlines(measured, scoring.n_tree_shuffles, check=check)
    found = replicate_headlines(measured, keep, check=check)
    if n_pure_classes(measured.top_images, measured.labels, measured.n_classes) < MIN_PURE_CLASSES:
        found["purity_mean"] = _without_interval(found["purity_mean"])
    return Resampled(found, trees)


def _without_interval(quantity: Quantity) -> Quantity:
    """The value alone: its replicates would promise more than they hold."""
    return replace(quantity, replicates=np.full_like(quantity.replicates, np.nan))


def measured_basis(
    parts: LabelledParts,
    chosen: Shortlist,
    nodes: DistinctNodes,
    associated: Mapping[AssociationRule, "sp.csr_array[np.bool_]"],
    images: LabelledImages,
    scoring: ScoringConfig,
) -> Measured:
    """What the headline numbers of a basis are computed from.

    Args:
        parts: its images, with the basis' own labels.
        chosen: the latents chosen for the nodes.
        nodes: the nodes by their scored images.
        associated: classes of the latents by the rule that was asked for, and by `topk`.
        images: the taxonomy, and what chance gives.
        scoring: the seed, and the rule that associates classes.
    """
    score = _with_sets(parts.scored)
    return Measured(
        taxonomy=images.taxonomy,
        chances=images.chances or Chances(images.taxonomy, scoring.seed),
        labels=parts.scored.labels,
        select=score if parts.in_sample else _with_sets(parts.selecting),
        score=score,
        nodes=nodes,
        node_best_latent=chosen.node_best_latent,
        top_images=parts.scored.ranked.top_images,
        associated=associated[scoring.association],
        top_classes=associated["topk"],
        seed=scoring.seed,
    )


def _with_sets(part: LabelledPart) -> ClassSums:
    return part.sums.with_label_sets(part.sets)
