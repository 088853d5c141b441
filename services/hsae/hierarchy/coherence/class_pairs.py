"""The pairs of different classes among a latent's strongest images, with their weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int, Int16, Int32, Int64, Shaped, UInt16

from hsae.hierarchy.coherence.resnik import ResnikSimilarity
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.statistics.label_sets import Labels, classes_of

_BLOCK_CELLS = 1 << 20
_CHUNK_ROWS = 512


@dataclass(frozen=True, slots=True, eq=False)
class PairBlock:
    """Latents whose strongest images have equally many classes; 4 bytes for every latent and pair.

    Attributes:
        latents: the latents, ascending.
        classes: their classes, those of the most images first, then by class.
        weight: for every pair of `pairs()` the number of pairs of different images that have the one and the other
            class, `w_a w_b` less the images that have both.
        code: the similarity of the pair's classes, an index into `ResnikSimilarity.bits`.
    """

    latents: Int64[np.ndarray, "n_rows"]
    classes: Int32[np.ndarray, "n_rows n_classes"]
    weight: Int16[np.ndarray, "n_rows n_pairs"]
    code: UInt16[np.ndarray, "n_rows n_pairs"]

    def pairs(self) -> tuple[Int64[np.ndarray, "n_pairs"], Int64[np.ndarray, "n_pairs"]]:
        """The columns of `classes` that make each pair."""
        left, right = np.triu_indices(self.classes.shape[1], k=1)
        return left, right

    def shares(self, keep: Bool[np.ndarray, " n_all"] | None = None) -> Float64[np.ndarray, "n_rows n_pairs"]:
        """The weights `c_ab` of every latent, which sum to 1; NaN where it has no pair.

        Args:
            keep: which classes; the other ones' pairs have weight 0.
        """
        weight = self.weight.astype(np.float64)
        if keep is not None:
            left, right = self.pairs()
            kept = keep[self.classes]
            weight *= kept[:, left] & kept[:, right]
        total = weight.sum(axis=1, keepdims=True)
        return weight / np.where(total > 0, total, np.nan)

    def kept_coherences(
        self, rows: slice, keeps: "Sequence[Bool[np.ndarray, 'n_classes'] | None]", resnik: ResnikSimilarity
    ) -> Float64[np.ndarray, "n_keeps n_chosen"]:
        """`ClassPairs.coherences` of some of the latents."""
        left, right = self.pairs()
        # Pairs are rows here, so that the values of a pair are next to one another.
        weight = np.ascontiguousarray(self.weight[rows].T, np.float64)
        bits = resnik.bits.take(np.ascontiguousarray(self.code[rows].T))
        classes = np.ascontiguousarray(self.classes[rows].T)
        values = np.empty((len(keeps), weight.shape[1]))
        for place, keep in enumerate(keeps):
            share = weight.copy()
            if keep is not None:
                kept = keep.take(classes)
                share *= kept.take(left, axis=0) & kept.take(right, axis=0)
            total = share.sum(axis=0)
            share /= np.where(total > 0, total, np.nan)
            share *= bits
            values[place] = share.sum(axis=0)
        return values

    def moved_coherences(
        self, rows: slice, permutations: "Sequence[Int64[np.ndarray, 'n_classes']]", resnik: ResnikSimilarity
    ) -> Float64[np.ndarray, "n_permutations n_chosen"]:
        """`ClassPairs.moved_coherences` of some of the latents."""
        left, right = self.pairs()
        n_classes, code = resnik.n_classes, resnik.code.ravel()
        chosen = PairBlock(self.latents[rows], self.classes[rows], self.weight[rows], self.code[rows])
        share = np.ascontiguousarray(chosen.shares().T)
        classes = np.ascontiguousarray(chosen.classes.T)
        values = np.empty((len(permutations), share.shape[1]))
        for number, places in enumerate(permutations):
            moved = places.take(classes)
            cell = (moved * n_classes).take(left, axis=0)
            cell += moved.take(right, axis=0)
            bits = resnik.bits.take(code.take(cell))
            bits *= share
            values[number] = bits.sum(axis=0)
        return values


@dataclass(frozen=True, slots=True, eq=False)
class ClassPairs:
    """The pairs of all latents that have two classes or more, by number of classes.

    Attributes:
        n_latents: number of latents, including those without a pair.
        blocks: the latents with pairs.
        resnik: the similarities of the classes.
    """

    n_latents: int
    blocks: Sequence[PairBlock]
    resnik: ResnikSimilarity

    def coherence(self, keep: Bool[np.ndarray, "n_classes"] | None = None) -> Float64[np.ndarray, "n_latents"]:
        """Taxonomic coherence `T_j = sum_{a<b} c_ab s_ab` in bits; NaN for a latent without a pair.

        Args:
            keep: count only these classes, as if the others had no images.
        """
        coherence: np.ndarray = self.coherences([keep])[0]
        return coherence

    def coherences(
        self, keeps: "Sequence[Bool[np.ndarray, 'n_classes'] | None]", *, check: Callable[[], None] = go_on
    ) -> Float64[np.ndarray, "n_keeps n_latents"]:
        """`coherence` for many choices of classes, latents in chunks that fit the cache.

        Args:
            keeps: as `keep` of `coherence`.
            check: called for every chunk; may raise to stop.
        """
        values = np.full((len(keeps), self.n_latents), np.nan)
        for block in self.blocks:
            of_rows = partial(block.kept_coherences, keeps=keeps, resnik=self.resnik)
            _fill(values, block, of_rows, check)
        return values

    def moved_coherences(
        self, permutations: "Sequence[Int64[np.ndarray, 'n_classes']]", *, check: Callable[[], None] = go_on
    ) -> Float64[np.ndarray, "n_permutations n_latents"]:
        """`coherence` when every class gets another place in the tree.

        Args:
            permutations: for every class its place, the class whose similarities it gets.
            check: called for every chunk; may raise to stop.
        """
        values = np.full((len(permutations), self.n_latents), np.nan)
        for block in self.blocks:
            of_rows = partial(block.moved_coherences, permutations=permutations, resnik=self.resnik)
            _fill(values, block, of_rows, check)
        return values


def _fill(
    values: Float64[np.ndarray, "n n_latents"],
    block: PairBlock,
    of_rows: Callable[[slice], Float64[np.ndarray, "n n_chosen"]],
    check: Callable[[], None],
) -> None:
    """Write the values of a block's latents, chunks of them in threads."""
    rows = list(_chunks(len(block.latents)))
    for chunk, found in zip(rows, map_blocks(of_rows, rows, "cpu"), strict=True):
        check()
        values[:, block.latents[chunk]] = found


def _chunks(n_rows: int) -> Iterator[slice]:
    return (slice(first, min(first + _CHUNK_ROWS, n_rows)) for first in range(0, n_rows, _CHUNK_ROWS))


def top_class_pairs(
    top_images: Int[np.ndarray, "n_latents n_top"], labels: Labels, resnik: ResnikSimilarity
) -> ClassPairs:
    """The pairs of different classes among every latent's strongest images; both of a pair come from different images.

    Args:
        top_images: the strongest firing images of every latent, padded with -1.
        labels: from `checked_labels`.
        resnik: the similarities of the classes.
    """
    n_classes = resnik.n_classes
    latent, place = np.nonzero(top_images >= 0)
    label, classes = classes_of(labels, top_images[latent, place])
    latent, place = latent[label], place[label]
    cells, cell = np.unique(latent * n_classes + classes, return_inverse=True)
    counts = np.bincount(cell, minlength=len(cells))
    order = np.lexsort((cells, -counts, cells // n_classes))  # those of the most images first
    position = np.empty(len(cells), np.int64)
    of_latent = cells[order] // n_classes
    n_of = np.bincount(of_latent, minlength=len(top_images))
    start = np.cumsum(n_of) - n_of
    position[order] = np.arange(len(cells)) - start[of_latent]
    row_of = np.full(len(top_images), -1)
    blocks = []
    for latents, n in _rows_of_one_width(n_of):
        classes_here = cells[order][start[latents][:, np.newaxis] + np.arange(n)] % n_classes
        has = np.zeros((len(latents), top_images.shape[1], n), np.float32)  # the image at a place has the class
        row_of[latents] = np.arange(len(latents))
        here = np.flatnonzero(row_of[latent] >= 0)
        has[row_of[latent[here]], place[here], position[cell[here]]] = 1
        row_of[latents] = -1
        left, right = np.triu_indices(n, k=1)
        both = has.transpose(0, 2, 1) @ has
        n_images = np.einsum("jaa->ja", both)
        weight = n_images[:, left] * n_images[:, right] - both[:, left, right]
        blocks.append(_block(latents, classes_here, weight, resnik))
    return ClassPairs(len(top_images), blocks, resnik)


def class_pairs_of_counts(class_counts: "sp.csr_array", resnik: ResnikSimilarity) -> ClassPairs:
    """As `top_class_pairs`, from numbers of images by class; right where every image has one class.

    Args:
        class_counts: integers [n_latents, n_classes], the strongest images `w_a` of every latent by class.
        resnik: the similarities of the classes.
    """
    counts = sp.csr_array(class_counts, copy=True)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    n_of = np.diff(counts.indptr)
    row = np.repeat(np.arange(counts.shape[0]), n_of)
    order = np.lexsort((counts.indices, -counts.data.astype(np.int64), row))
    classes, n_images = counts.indices[order], counts.data[order].astype(np.int64)
    blocks = []
    for latents, n in _rows_of_one_width(n_of):
        entry = counts.indptr[latents].astype(np.int64)[:, np.newaxis] + np.arange(n)
        left, right = np.triu_indices(n, k=1)
        weight = n_images[entry[:, left]] * n_images[entry[:, right]]
        blocks.append(_block(latents, classes[entry], weight, resnik))
    return ClassPairs(int(counts.shape[0]), blocks, resnik)


def _block(
    latents: Int64[np.ndarray, "n_rows"],
    classes: Int[np.ndarray, "n_rows n_classes"],
    weight: Shaped[np.ndarray, "n_rows n_pairs"],
    resnik: ResnikSimilarity,
) -> PairBlock:
    left, right = np.triu_indices(classes.shape[1], k=1)
    code = resnik.code[classes[:, left], classes[:, right]]
    return PairBlock(latents, classes.astype(np.int32), weight.astype(np.int16), code)


def _rows_of_one_width(n_of: Int[np.ndarray, "n_latents"]) -> Iterator[tuple[Int64[np.ndarray, "n_rows"], int]]:
    """The latents of each number of classes from 2 on, in blocks of bounded size."""
    for n in np.unique(n_of[n_of >= 2]).tolist():
        latents = np.flatnonzero(n_of == n)
        height = max(1, _BLOCK_CELLS // (n * n))
        for first in range(0, len(latents), height):
            yield latents[first : first + height], n
