"""Headline numbers of small arrays, in few words."""

import numpy as np
import scipy.sparse as sp

from hsae.hierarchy.coherence.chance import Chances
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.resampling.measured import Measured
from hsae.hierarchy.scores.associations import associated_classes
from hsae.hierarchy.scores.node_scores import NodeSums
from hsae.hierarchy.scores.shortlist import node_priority, shortlist
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.distinct_nodes import distinct_nodes
from hsae.hierarchy.statistics.label_sets import checked_labels, label_sets
from hsae.hierarchy.statistics.ranks import rank_activations
from hsae.taxonomy import InducedTaxonomy


def measure(
    dense, labels, taxonomy: InducedTaxonomy, *, select=None, seed: int = 0, device: Device = "cpu"
) -> Measured:
    """`select`: the rows on which latents are chosen, the others being scored; None: all rows are both."""
    labels = checked_labels(labels, len(dense), len(taxonomy.classes))
    rows = np.arange(len(dense))
    parts = [rows, rows] if select is None else [rows[select], rows[~select]]
    sums = []
    for part in parts:
        sets = label_sets(labels[part], taxonomy)
        ranked = rank_activations(sp.csr_array(dense[part]), device=device)
        sums.append(sum_by_class(ranked, sets.of_image, sets.n_sets, device=device).with_label_sets(sets))
    if select is None:
        sums[1] = sums[0]
    priority = node_priority(taxonomy)
    chosen = shortlist(NodeSums(sums[0], sp.csr_array(sums[0].closure(taxonomy)[:, priority])), priority)
    scored = labels[parts[1]]
    top_classes = associated_classes("topk", ranked, sum_by_class(ranked, scored, len(taxonomy.classes)), scored)
    return Measured(
        taxonomy=taxonomy,
        chances=Chances(taxonomy, seed),
        labels=scored,
        select=sums[0],
        score=sums[1],
        nodes=distinct_nodes(sets, scored, taxonomy),
        node_best_latent=chosen.node_best_latent,
        top_images=ranked.top_images,
        associated=top_classes,
        top_classes=top_classes,
        seed=seed,
    )


def label_matrix(labels, n_classes: int, rng: np.random.Generator) -> sp.csr_array:
    """The labels as a matrix, and now and then a second one."""
    matrix = np.zeros((len(labels), n_classes), bool)
    matrix[np.arange(len(labels)), labels] = True
    more = rng.random(len(labels)) < 0.4
    matrix[np.flatnonzero(more), rng.integers(0, n_classes, int(more.sum()))] = True
    return sp.csr_array(matrix)
