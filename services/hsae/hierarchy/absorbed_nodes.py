"""Absorption at the inner nodes of an analysis: the SAE as it reads and writes the images, and the basis' labels."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from hsae.hierarchy.config import ABSORPTION_BASES
from hsae.hierarchy.controls.shuffles import shuffle_taxonomy
from hsae.hierarchy.latent_hierarchy.absorption import NodeAbsorption, WrittenImages, node_absorption
from hsae.hierarchy.latent_hierarchy.directions import ImagesUnder
from hsae.hierarchy.scored_activations import BasisActivations, LabelledImages, SaeActivations
from hsae.hierarchy.scores.shortlist import Shortlist
from hsae.hierarchy.statistics.label_sets import checked_labels, label_sets


def written_images(sae: SaeActivations, images: LabelledImages, threshold: float) -> WrittenImages | None:
    """The images as the SAE reads and writes them; None where absorption is not measured.

    It needs the decoder, the pre-bias and what the SAE was given. With several tokens per image it is not defined: a
    latent's activation is its maximum over them, which is not what the decoder writes in their mean (ours). Nor is it
    where no training image has a class of the taxonomy.
    """
    if sae.neurons is None or sae.decoder is None or sae.pre_bias is None or sae.pooled_neurons is not None:
        return None
    everywhere = np.arange(len(sae.neurons))
    parts = images.parts
    train = everywhere if parts is None else parts.train[parts.train < images.labels.shape[0]]
    if not len(train):
        return None
    return WrittenImages(
        inputs=(np.float32(sae.input_scale) * sae.neurons - sae.pre_bias).astype(np.float32),
        z=sae.z,
        decoder=sae.decoder,
        train=train,
        select=everywhere if parts is None else parts.select,
        score=everywhere if parts is None else parts.score,
        threshold=threshold,
    )


def absorbed_nodes(
    given: BasisActivations, images: LabelledImages, chosen: Shortlist, *, seed: int, check: Callable[[], None]
) -> NodeAbsorption | None:
    """Absorption at every inner node that has a best latent, or None for a basis in which it is not measured.

    It is measured for the SAE and for the shuffled taxonomy, whose inner nodes are random unions of classes.

    Args:
        given: the basis.
        images: labels of all images, unshuffled.
        chosen: with the best latent of each node.
        seed: seed of the random directions.
        check: called for every block of nodes; may raise to stop.
    """
    if given.written is None or given.basis not in ABSORPTION_BASES:
        return None
    taxonomy = images.taxonomy
    n_classes = len(taxonomy.classes)
    labels = checked_labels(images.labels, images.labels.shape[0], n_classes)
    if given.basis == "shuffled_taxonomy":
        labels = shuffle_taxonomy(labels, n_classes, given.seed, scored=labels[given.written.score])
    sets = label_sets(labels, taxonomy)
    nodes = np.flatnonzero((np.asarray(taxonomy.height) > 0) & (chosen.node_best_latent >= 0))
    under = ImagesUnder(sets.of_image, sp.csc_array(sets.closure))
    return node_absorption(given.written, under, nodes, chosen.node_best_latent[nodes], seed=seed, check=check)
