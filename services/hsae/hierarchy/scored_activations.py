"""What an analysis scores: the images, an SAE on them, and one basis at a time."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int64

from hsae.hierarchy.coherence.chance import Chances
from hsae.hierarchy.controls.bases.columns import Columns
from hsae.hierarchy.latent_hierarchy.absorption import WrittenImages
from hsae.hierarchy.statistics.label_sets import Labels
from hsae.hierarchy.statistics.ranks import RankedActivations
from hsae.taxonomy import InducedTaxonomy
from hsae.vocabulary.bases import Basis


@dataclass(frozen=True, slots=True, eq=False)
class ImageParts:
    """Which images train, which select, and which are scored, so that no choice is measured on what it was made on.

    Attributes:
        train: positions of the images that SAEs and supervised baselines are trained on, ascending.
        select: positions of the images on which latents, labels and thresholds are chosen, ascending.
        score: positions of the images from which every number comes, ascending.
    """

    train: Int64[np.ndarray, "n_train"]
    select: Int64[np.ndarray, "n_select"]
    score: Int64[np.ndarray, "n_score"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """The images of an analysis.

    Where another data set trains, the images that select and score come first, then those that train. Only the first
    have latent activations and embeddings. Training images of classes that the taxonomy lacks come last and without
    labels: what reads labels leaves them out.

    Attributes:
        labels: class of every image, a position in `taxonomy.classes`; or, where images have several, bool or
            integers [n_images, n_classes] in CSR form.
        taxonomy: the induced taxonomy of the data set's classes.
        embeddings: what the monosemanticity score measures the similarity of images in, float32[n_images, d_embedding];
            None: the activations that the SAE was given, or, where a single basis is scored, no such score (NaN).
        parts: what each image is used for; None: in-sample, every image for everything.
        chances: what chance gives for the classes, to be shared by bases; None: computed for each.
    """

    labels: Labels
    taxonomy: InducedTaxonomy
    embeddings: Float32[np.ndarray, "n_images d_embedding"] | None = None
    parts: ImageParts | None = None
    chances: Chances | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SaeActivations:
    """An SAE on the images that select and score, and what its controls are made of.

    Attributes:
        z: latent activations, float32[n_images, n_latents], not negative.
        neurons: the activations that the SAE was given, of the same images; then those of further training images.
            None where they are unknown: then there are no baselines and no absorption, and no monosemanticity without
            embeddings.
        decoder: the direction that every latent of the SAE writes, for the similarity of siblings, NaN without it.
        untrained: for the control `untrained`, the latent activations of the SAE before its training, as `z`.
        pooled_neurons: of images with several tokens, what the control `neuron` is made of: over an image's tokens the
            greatest positive part of every neuron, then the greatest negative parts, float32[n_images, 2 * d_model].
        pre_bias: what the SAE subtracts from its scaled input; without it absorption is not measured.
        input_scale: what it multiplies its input by first.
    """

    z: "sp.csr_array[np.float32]"
    neurons: Float32[np.ndarray, "n_images d_model"] | None
    decoder: Float32[np.ndarray, "n_latents d_model"] | None = None
    untrained: "sp.csr_array[np.float32] | None" = None
    pooled_neurons: "sp.csr_array[np.float32] | None" = None
    pre_bias: Float32[np.ndarray, "d_model"] | None = None
    input_scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class BasisActivations:
    """One basis.

    Attributes:
        basis: what it is, and whether labels or taxonomy are shuffled.
        ranked: its activations on the scored images.
        seed: seed of the shuffle; of a control basis the number of the draw.
        dense: of a control basis, its columns on the scored images before their thresholds, for `auroc_dense`.
        decoder: the direction that every latent writes, for the similarity of siblings, NaN without it.
        monosemanticity: the latents' scores where they are known already.
        selecting: its activations on the images on which latents are chosen; None: the scored images themselves.
        is_repeat: whether it is a further draw of a control basis, of which only the layer's row and the nodes' best
            columns are wanted.
        written: the images as its SAE reads and writes them, for absorption; None: it is not measured.
    """

    basis: Basis
    ranked: RankedActivations
    seed: int = 0
    dense: Columns | None = None
    decoder: Float32[np.ndarray, "n_latents d_model"] | None = None
    monosemanticity: Float64[np.ndarray, "n_latents"] | None = None
    selecting: RankedActivations | None = None
    is_repeat: bool = False
    written: WrittenImages | None = None
