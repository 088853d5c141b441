"""What is scored: the SAE, the baselines and shuffles beside it. Their names, and the words for them."""

from typing import Literal, get_args

ControlBasis = Literal["neuron", "pca", "random", "untrained", "exemplar", "kmeans", "class_mean"]
"""What is scored beside an SAE, each with columns of its own."""
CONTROL_BASES: tuple[ControlBasis, ...] = get_args(ControlBasis)
"""In the order in which they are scored, which is also that in a key."""
BASELINES: tuple[ControlBasis, ...] = ("exemplar", "kmeans", "pca", "random", "neuron", "untrained")
"""What an SAE must beat, by default all, in the order of tables: made without labels, at the SAE's densities."""
CEILINGS: tuple[ControlBasis, ...] = ("class_mean",)
"""Those that read the labels: ceilings, not baselines."""

ShuffledBasis = Literal["shuffled_labels", "shuffled_taxonomy"]
SHUFFLED_BASES: tuple[ShuffledBasis, ...] = get_args(ShuffledBasis)
"""The SAE's latents against labels or a taxonomy that mean nothing."""

Basis = Literal["sae", ControlBasis, ShuffledBasis]
BASES: tuple[Basis, ...] = ("sae", *BASELINES, *CEILINGS, *SHUFFLED_BASES)
"""All, in the order of tables."""

BASIS_NAMES: dict[str, str] = {
    "sae": "SAE",
    "exemplar": "exemplars",
    "kmeans": "k-means",
    "pca": "PCA",
    "random": "random directions",
    "neuron": "raw neurons",
    "untrained": "untrained SAE",
    "class_mean": "class means (ceiling)",
    "shuffled_taxonomy": "shuffled tree",
    "shuffled_labels": "shuffled labels",
}
"""For people."""
CONTROL_HEADINGS: dict[str, str] = {
    "exemplar": "exemplars",
    "kmeans": "k-means",
    "pca": "PCA",
    "random": "random",
    "neuron": "neurons",
    "untrained": "untrained",
    "class_mean": "ceiling",
    "shuffled_taxonomy": "~tree",
    "shuffled_labels": "~labels",
}
"""For the columns of a table, where each letter counts."""
