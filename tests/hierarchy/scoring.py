"""The scores of arrays, with as few words as a test needs."""

from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.score_bases import score_bases, score_basis
from hsae.hierarchy.scored_activations import BasisActivations, LabelledImages, SaeActivations
from hsae.hierarchy.statistics.ranks import rank_activations

_WITHOUT_UNTRAINED = ("neuron", "pca", "random")
_FEW = {"n_replicates": 2, "n_tree_shuffles": 2}


def score_all(z, labels, taxonomy, neurons, *, device="cpu", progress=None, **options):
    """All bases, by default without an untrained SAE.

    `options`: decoder and untrained latents of the SAE, embeddings and parts of the images, the seed, and fields of
    `ScoringConfig`.
    """
    decoder, untrained, embeddings, parts = (
        options.pop(name, None) for name in ("decoder", "untrained", "embeddings", "parts")
    )
    config = _config(options.pop("seed", 0), **{"controls": _WITHOUT_UNTRAINED, **_FEW, **options})
    sae = SaeActivations(z, neurons, decoder, untrained)
    images = LabelledImages(labels, taxonomy, embeddings, parts)
    return score_bases(sae, images, config, device=device, progress=progress)


def score_one(z, labels, taxonomy, *, basis, seed=0, embeddings=None, cluster_seed=0):
    """One basis."""
    given = BasisActivations(basis, rank_activations(z), seed)
    return score_basis(given, LabelledImages(labels, taxonomy, embeddings), _config(cluster_seed, **_FEW))


def _config(seed, **scoring):
    """With any seed: the config allows those that the catalog can hold."""
    return ScoringConfig(**scoring).model_copy(update={"seed": seed})
