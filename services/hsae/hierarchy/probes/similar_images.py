"""The images most similar to one in the space of the latents, which latents carry the similarity, and their classes.

The cosine of two images is a sum over the latents that fire on both, so that every latent has a share of it.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float32, Float64, Int64

from hsae.errors import UserError
from hsae.hierarchy.statistics.label_sets import Labels, label_sets
from hsae.taxonomy import InducedTaxonomy

_DECIMALS = 12
_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """The latents that carry one similarity, the greatest share first, ties by latent.

    Attributes:
        latents: those that fire on both images.
        shares: `q_j z_j / sum_j q_j z_j`, all above 0; they add up to 1.
    """

    latents: Int64[np.ndarray, "n"]
    shares: Float64[np.ndarray, "n"]


@dataclass(frozen=True, slots=True, eq=False)
class SimilarRows:
    """The most similar images, the most similar first, ties by row.

    Attributes:
        rows: their rows.
        similarity: the cosines, rounded to 12 decimals.
    """

    rows: Int64[np.ndarray, "n"]
    similarity: Float64[np.ndarray, "n"]


def similar_by_latents(
    query: Float[np.ndarray, "n_latents"], z: "sp.csr_array[np.float32]", k: int, *, own_row: int | None = None
) -> tuple[SimilarRows, tuple[Carried, ...]]:
    """The `k` images with the greatest cosine of latents, and what carries each; images that share none are left out.

    Args:
        query: the latents of an image, at least 0.
        z: float32[n_images, n_latents], those of the candidates.
        k: at most so many.
        own_row: the row of the query itself, which is no candidate.

    Raises:
        UserError: no latent fires on the query, or `k` is less than 1.
    """
    if k < 1:
        raise UserError(f"{k} similar images were asked for: ask for at least 1")
    exact = np.asarray(query, np.float64)
    length = float(np.linalg.norm(exact))
    if length == 0:
        raise UserError("no latent fires on the image, so that no image is similar to it: take another image or SAE")
    wide = z.astype(np.float64)
    lengths = np.sqrt(np.asarray(wide.multiply(wide).sum(axis=1)).ravel())
    products: Float64[np.ndarray, "n_images"] = np.asarray(wide @ exact)
    found = _strongest(products / (np.where(lengths > 0, lengths, 1) * length), k, own_row)
    n_sharing = int((found.similarity > 0).sum())
    found = SimilarRows(found.rows[:n_sharing], found.similarity[:n_sharing])
    return found, tuple(_carried(exact, wide[[row]]) for row in found.rows.tolist())


def _carried(query: Float64[np.ndarray, "n_latents"], z: "sp.csr_array[np.float64]") -> Carried:
    terms = query[z.indices] * z.data
    is_shared = terms > 0
    latents, terms = z.indices[is_shared].astype(np.int64), terms[is_shared]
    order = np.lexsort((latents, -terms))
    return Carried(latents[order], terms[order] / terms.sum())


def similar_by_activations(
    query: Float32[np.ndarray, "d_model"], x: Float32[np.ndarray, "n_images d_model"], k: int, *, own_row: int | None
) -> SimilarRows:
    """The same search on the activations themselves, less the mean of all of them, as the k-NN probe compares them."""
    mean = x.mean(axis=0, dtype=np.float64)
    direction = query - mean
    length = float(np.linalg.norm(direction))
    cosine = np.zeros(len(x))
    for first in range(0, len(x), _BLOCK_ROWS):
        here = x[first : first + _BLOCK_ROWS] - mean
        lengths = np.linalg.norm(here, axis=1) * length
        cosine[first : first + _BLOCK_ROWS] = here @ direction / np.where(lengths > 0, lengths, 1)
    return _strongest(cosine, k, own_row)


def _strongest(cosine: Float64[np.ndarray, "n_images"], k: int, own_row: int | None) -> SimilarRows:
    rounded = np.round(cosine, _DECIMALS)
    if own_row is not None:
        rounded[own_row] = -np.inf
    order = np.lexsort((np.arange(len(rounded)), -rounded))[: min(k, len(rounded) - (own_row is not None))]
    return SimilarRows(order, rounded[order])


@dataclass(frozen=True, slots=True, eq=False)
class Relatives:
    """What images have in common with one of them by their classes.

    Attributes:
        same_class: whether they share a class.
        bits: the greatest information content, `log2(|L| / |L_v|)`, of a node at or above a class of both: 0 where that
            is the root, and of the same class its own. Of different classes this is their Resnik similarity.
    """

    same_class: Bool[np.ndarray, "n_images"]
    bits: Float64[np.ndarray, "n_images"]

    @classmethod
    def of(cls, labels: Labels, taxonomy: InducedTaxonomy, row: int) -> "Relatives":
        """Those of every image and the image of a row.

        Args:
            labels: of all images, from `checked_labels`.
            taxonomy: of their classes.
            row: the image.
        """
        sets = label_sets(labels, taxonomy)
        own = int(sets.of_image[row])
        nodes = sets.closure[[own]].indices
        content = np.log2(len(taxonomy.classes) / taxonomy.leaf_counts[nodes])
        common = sets.closure.tocsc()[:, nodes].tocoo()
        bits = np.zeros(sets.n_sets)
        np.maximum.at(bits, common.row, content[common.col])
        if sets.members is None:
            is_same = np.arange(sets.n_sets) == own
        else:
            members = sets.members.astype(np.int64)
            is_same = (members @ members[[own]].T).toarray().ravel() > 0
        return cls(is_same[sets.of_image], bits[sets.of_image])


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well similar images agree with one by their classes; None of no images.

    Attributes:
        n_images: how many they are.
        same_class: share of those with a class of the image.
        bits: mean of what their classes have in common with it.
    """

    n_images: int
    same_class: float | None
    bits: float | None

    @classmethod
    def of(cls, relatives: Relatives, rows: Int64[np.ndarray, "n"]) -> "Agreement":
        """That of some images. Of all but the image itself it is what random images have, exactly."""
        if not len(rows):
            return cls(0, None, None)
        return cls(len(rows), float(relatives.same_class[rows].mean()), float(relatives.bits[rows].mean()))
