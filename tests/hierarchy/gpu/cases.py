"""What the tests of an emulated GPU score."""

import dataclasses

import numpy as np
import scipy.sparse as sp

from hsae.hierarchy.scores.node_scores import iter_node_scores
from hsae.hierarchy.scores.pair_sums import NodeScores
from hsae.hierarchy.statistics.class_sums import ClassSums, sum_by_class
from hsae.hierarchy.statistics.label_sets import checked_labels, label_sets
from hsae.hierarchy.statistics.ranks import RankedActivations, rank_activations


def several_labels(labels, n_classes, rng):
    """The labels with a further class for about a third of the images, in CSR form."""
    matrix = np.zeros((len(labels), n_classes), np.bool_)
    matrix[np.arange(len(labels)), labels] = True
    more = rng.random(len(labels)) < 0.3
    matrix[more, rng.integers(0, n_classes, int(more.sum()))] = True
    return sp.csr_array(matrix)


def every_number(case, device, *, threshold=0.0, labels=None):
    """Ranks, sums by class and by label set, and all scores of all pairs, as named arrays."""
    taxonomy = case.taxonomy
    n_classes = len(taxonomy.classes)
    ranked = rank_activations(case.z, threshold=threshold, device=device)
    labels = checked_labels(case.labels if labels is None else labels, ranked.n_images, n_classes)
    sets = label_sets(labels, taxonomy)
    by_class = sum_by_class(ranked, labels, n_classes, device=device)
    by_set = sum_by_class(ranked, sets.of_image, sets.n_sets, device=device)
    blocks = [block for _, block in iter_node_scores(by_set, sets.closure, device=device)]
    names = [field.name for field in dataclasses.fields(NodeScores)]
    found = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in names}
    for what, type_ in ((ranked, RankedActivations), (by_class, ClassSums), (by_set, ClassSums)):
        for field in dataclasses.fields(type_):
            found[f"{field.name} {len(found)}"] = np.asarray(getattr(what, field.name))
    return found


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)
