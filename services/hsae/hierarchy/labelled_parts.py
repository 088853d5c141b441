"""The images on which latents are chosen and those on which they are scored, each with labels and sums by class."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int64

from hsae.errors import UserError
from hsae.hierarchy.controls.shuffles import shuffle_labels, shuffle_taxonomy
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.scored_activations import BasisActivations, ImageParts, LabelledImages
from hsae.hierarchy.scores.node_scores import NodeSums
from hsae.hierarchy.scores.shortlist import Shortlist, node_priority, shortlist
from hsae.hierarchy.statistics.class_sums import ClassSums, sum_by_class
from hsae.hierarchy.statistics.label_sets import Labels, LabelSets, checked_labels, label_sets
from hsae.hierarchy.statistics.ranks import RankedActivations, rank_activations
from hsae.taxonomy import InducedTaxonomy

_OF_SELECTION = 1
"""Second number of the seed with which the labels of the selecting images are shuffled; the scored ones have none."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPart:
    """Activations of some images with their labels.

    Attributes:
        ranked: activations of every latent on these images.
        labels: their labels, from `checked_labels`.
        sets: the same as label sets.
        sums: sums by label set.
    """

    ranked: RankedActivations
    labels: Labels
    sets: LabelSets
    sums: ClassSums

    @classmethod
    def of(
        cls, ranked: RankedActivations, labels: Labels, taxonomy: InducedTaxonomy, *, device: Device
    ) -> "LabelledPart":
        """Group the labels and sum the activations."""
        sets = label_sets(labels, taxonomy)
        return cls(ranked, labels, sets, sum_by_class(ranked, sets.of_image, sets.n_sets, device=device))


@dataclass(frozen=True, slots=True, eq=False)
class LabelledParts:
    """What a basis is chosen on and scored on; in-sample both are one object.

    Attributes:
        selecting: the images on which the best latents and nodes are chosen.
        scored: the images from which every number comes.
    """

    selecting: LabelledPart
    scored: LabelledPart

    @property
    def in_sample(self) -> bool:
        """Whether the choice is measured on the images that it was made on."""
        return self.selecting is self.scored


def rank_parts(
    z: "sp.csr_array[np.float32]", parts: ImageParts | None, *, threshold: float = 0.0, device: Device = "cpu"
) -> tuple[RankedActivations, RankedActivations]:
    """Rank the activations of the scored and of the selecting images; in-sample both are one object.

    Args:
        z: activations of all images, float32[n_images, n_latents].
        parts: which images are which; None: in-sample.
        threshold: as for `rank_activations`.
        device: where they are ranked.

    Raises:
        UserError: as for `rank_activations`; or no image is left to choose or to score on.
    """
    if parts is None:
        ranked = rank_activations(z, threshold=threshold, device=device)
        return ranked, ranked
    for use, positions in (("to choose latents", parts.select), ("to score", parts.score)):
        if not len(positions):
            raise UserError(f"the split of the images leaves none {use} on: give more images, or no split")
    scored, selecting = (
        rank_activations(z[positions], threshold=threshold, device=device) for positions in (parts.score, parts.select)
    )
    return scored, selecting


def labelled_parts(given: BasisActivations, images: LabelledImages, *, device: Device) -> LabelledParts:
    """Give a basis' images their labels, shuffled as the basis asks for, and sum its activations by class.

    Labels are shuffled within the scored and within the selecting images, so that the class sizes of both stay. The
    classes are permuted over the tree in the same way for both.

    Args:
        given: the basis.
        images: with the labels of all images, unshuffled.
        device: where activations are summed.

    Raises:
        UserError: the labels do not fit the activations or the taxonomy.
    """
    taxonomy, parts = images.taxonomy, images.parts
    n_classes = len(taxonomy.classes)
    n_images = given.ranked.n_images if parts is None else int(images.labels.shape[0])
    labels = checked_labels(images.labels, n_images, n_classes)
    if given.basis == "shuffled_taxonomy":
        labels = shuffle_taxonomy(labels, n_classes, given.seed, scored=None if parts is None else labels[parts.score])
    shuffles = given.basis == "shuffled_labels"

    def part(ranked: RankedActivations, positions: Int64[np.ndarray, "n"] | None, seed: list[int]) -> LabelledPart:
        of_part = labels if positions is None else labels[positions]
        if shuffles:
            of_part = shuffle_labels(of_part, seed[0] if len(seed) == 1 else seed)
        return LabelledPart.of(ranked, of_part, taxonomy, device=device)

    scored = part(given.ranked, None if parts is None else parts.score, [given.seed])
    if parts is None or given.selecting is None:
        return LabelledParts(scored, scored)
    return LabelledParts(part(given.selecting, parts.select, [given.seed, _OF_SELECTION]), scored)


def chosen_pairs(
    parts: LabelledParts,
    taxonomy: InducedTaxonomy,
    *,
    everything: bool,
    device: Device,
    on_block: Callable[[int], None] | None = None,
) -> Shortlist:
    """Choose pairs, labels and best latents on the selecting images; their F1 is that of the scored images.

    Args:
        parts: the images.
        taxonomy: the induced taxonomy.
        everything: as for `shortlist`.
        device: where pairs are scored.
        on_block: called with the number of latents after each block; may raise to stop.
    """
    priority = node_priority(taxonomy)
    selecting = parts.selecting
    sums = NodeSums(selecting.sums, sp.csr_array(selecting.sets.closure[:, priority]), device=device)
    chosen = shortlist(sums, priority, everything=everything, on_block=on_block)
    if parts.in_sample:
        return chosen
    return chosen.scored_on(NodeSums(parts.scored.sums, parts.scored.sets.closure, device=device))


def sums_of_all(z: "sp.csr_array[np.float32]", images: LabelledImages, threshold: float, device: Device) -> ClassSums:
    """The sums by class over all images with latents, from which an export makes the scores of every pair."""
    ranked = rank_activations(z, threshold=threshold, device=device)
    labels = checked_labels(images.labels[: ranked.n_images], ranked.n_images, len(images.taxonomy.classes))
    everything = LabelledPart.of(ranked, labels, images.taxonomy, device=device)
    return everything.sums.with_label_sets(everything.sets)
