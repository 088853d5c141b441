"""Leaves of WordNet as the classes of a data set: a taxonomy like ImageNet's, without its images."""

import numpy as np

from hsae.taxonomy import InducedTaxonomy, Taxonomy, induce, load_taxonomy

_ROOTS = ("animal.n.01", "artifact.n.01")
_CLASSES_PER_PARENT = 7
"""With it, 1,000 classes have about as many hypernyms as ImageNet-1k's (1,860 nodes)."""


def wordnet_leaves(n_classes: int) -> InducedTaxonomy:
    """The taxonomy of leaves under _ROOTS, several of a parent; always the same for the same number."""
    wordnet = load_taxonomy()
    return induce(wordnet, _classes(wordnet, n_classes))


def _classes(wordnet: Taxonomy, n_classes: int) -> list[str]:
    by_parent: dict[str, list[str]] = {}
    seen = set()
    for root in _ROOTS:
        pending = [wordnet.resolve(root).id]
        while pending:
            synset_id = pending.pop()
            if synset_id in seen:
                continue
            seen.add(synset_id)
            below = wordnet.hyponyms(synset_id)
            pending.extend(below)
            if not below:
                by_parent.setdefault(wordnet.hypernyms(synset_id)[0], []).append(synset_id)
    order = np.random.default_rng(0).permutation(sorted(by_parent))
    return [leaf for parent in order for leaf in sorted(by_parent[parent])[:_CLASSES_PER_PARENT]][:n_classes]
