"""The definitions of coherence as loops: slow, and easy to compare with what is written in docs/metrics.md."""

import itertools
import math


def slow_resnik(taxonomy):
    """`s_ab` as nested lists; None on the diagonal."""
    under = taxonomy.closure.toarray() > 0
    n_classes, n_nodes = under.shape
    information = [-math.log2(under[:, node].sum() / n_classes) for node in range(n_nodes)]
    return [
        [
            None if a == b else max(information[v] for v in range(n_nodes) if under[a, v] and under[b, v])
            for b in range(n_classes)
        ]
        for a in range(n_classes)
    ]


def strongest_images(column, n_top=16):
    """Row numbers of the strongest firing images, ties by number."""
    firing = [image for image in range(len(column)) if column[image] > 0]
    return sorted(firing, key=lambda image: (-column[image], image))[:n_top]


def pair_counts(images, classes_of_image):
    """(a, b) with a < b -> pairs of different images of which one has class a and the other class b."""
    counts = {}
    for one, other in itertools.permutations(images, 2):
        for a in classes_of_image[one]:
            for b in classes_of_image[other]:
                if a < b:
                    counts[a, b] = counts.get((a, b), 0) + 1
    return counts


def slow_coherence(counts, similarity):
    """`T_j` from `pair_counts`; NaN without a pair."""
    total = sum(counts.values())
    return sum(n * similarity[a][b] for (a, b), n in counts.items()) / total if total else math.nan
