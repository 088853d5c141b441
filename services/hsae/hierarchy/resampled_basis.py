"""The headline numbers of a scored basis again, with classes deleted and with shuffled taxonomies."""

from collections.abc import Callable

import numpy as np

from hsae.hierarchy.coherence.resnik import resnik_similarity
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.labelled_parts import LabelledPart, LabelledParts
from hsae.hierarchy.resampling.deleted_classes import kept_classes, replicate_headlines
from hsae.hierarchy.resampling.measured import Measured
from hsae.hierarchy.resampling.resampled import Resampled
from hsae.hierarchy.resampling.tree_shuffles import class_places, shuffle_headlines
from hsae.hierarchy.scored_activations import BasisActivations
from hsae.hierarchy.scores.associations import associated_classes
from hsae.hierarchy.scores.shortlist import Shortlist
from hsae.hierarchy.statistics.class_sums import ClassSums, sum_by_class
from hsae.taxonomy import InducedTaxonomy


def resampled_headlines(
    given: BasisActivations,
    parts: LabelledParts,
    chosen: Shortlist,
    taxonomy: InducedTaxonomy,
    scoring: ScoringConfig,
    *,
    device: Device = "cpu",
    check: Callable[[], None] = go_on,
) -> Resampled:
    """Replicates of every basis; shuffled taxonomies of the trained SAE alone.

    Args:
        given: the basis.
        parts: its images, with the basis' own labels.
        chosen: the latents chosen for the nodes.
        taxonomy: the induced taxonomy.
        scoring: numbers of replicates and of shuffles, their seed, and the rule that associates classes.
        device: where sums and products are computed.
        check: called often; may raise to stop.
    """
    scored, n_classes = parts.scored, len(taxonomy.classes)
    by_class = sum_by_class(scored.ranked, scored.labels, n_classes, device=device)
    score = _with_sets(scored)
    measured = Measured(
        taxonomy=taxonomy,
        resnik=resnik_similarity(taxonomy),
        labels=scored.labels,
        select=score if parts.in_sample else _with_sets(parts.selecting),
        score=score,
        node_best_latent=chosen.node_best_latent,
        top_images=scored.ranked.top_images,
        associated=associated_classes(scoring.association, scored.ranked, by_class, scored.labels),
        seed=scoring.seed,
    )
    keep = kept_classes(taxonomy, scoring.n_replicates, scoring.seed)
    if given.basis == "shuffled_taxonomy":  # the same images are deleted, wherever their class is
        moved = np.empty_like(keep)
        moved[:, class_places(n_classes, given.seed)] = keep
        keep = moved
    trees = {}
    if given.basis == "sae" and scoring.n_tree_shuffles:
        trees = shuffle_headlines(measured, scoring.n_tree_shuffles, device=device, check=check)
    return Resampled(replicate_headlines(measured, keep, check=check), trees)


def _with_sets(part: LabelledPart) -> ClassSums:
    return part.sums.with_label_sets(part.sets)
