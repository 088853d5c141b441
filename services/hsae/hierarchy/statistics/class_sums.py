"""Sums per (latent, class), from which all node scores follow.

The images of a node are the union of its classes' images, so one product of these sums with the taxonomy's closure
gives the exact scores of every (latent, node) pair. If images have several labels, label sets replace the classes
(`hsae.hierarchy.statistics.label_sets`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int32, Int64
from torch import Tensor
from torch.nn.functional import pad

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import latent_blocks
from hsae.hierarchy.kernels.device import (
    Device,
    at_starts,
    groups,
    is_cpu,
    run_lengths,
    run_numbers,
    segment_count,
    segment_sum,
    stable_sort,
    to_device,
    to_host,
)
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.statistics.label_sets import Labels, LabelSets, checked_labels, classes_of, closure_of_sets
from hsae.hierarchy.statistics.ranks import RankedActivations
from hsae.taxonomy import InducedTaxonomy

_OF_SETS = frozenset({"set_indptr", "set_classes"})


@dataclass(frozen=True, slots=True, eq=False)
class ClassSums:
    """Firing counts, mass and rank sums of every latent over every class, as one sparse matrix.

    Row `j` (a latent) has the entries `indptr[j]:indptr[j + 1]`, one per class with a non-zero activation, classes
    ascending. All numbers except the masses are exact integers.

    Attributes:
        n_images: number of images of the analysis.
        threshold: a latent fires if `z > threshold`.
        class_sizes: number of images of every class.
        indptr: bounds of the latents' entries.
        classes: class of every entry (a position in `InducedTaxonomy.classes`).
        n_fire: number of images of the class on which the latent fires.
        mass: sum of the latent's activations over the class, independent of the threshold.
        rank_excess: sum over the class of `RankedActivations.rank_excess`.
        n_nonzero: number of images with a non-zero activation of the latent.
        tie_term: `sum(t**3 - t)` over the latent's groups of tied images.
        set_indptr: if label sets replace the classes, bounds of the sets' entries in `set_classes`; otherwise None.
        set_classes: classes of every label set, ascending (positions in `InducedTaxonomy.classes`); otherwise None.
    """

    n_images: int
    threshold: float
    class_sizes: Int64[np.ndarray, "n_classes"]
    indptr: Int64[np.ndarray, "n_latents+1"]
    classes: Int32[np.ndarray, "n_entries"]
    n_fire: Int32[np.ndarray, "n_entries"]
    mass: Float64[np.ndarray, "n_entries"]
    rank_excess: Int64[np.ndarray, "n_entries"]
    n_nonzero: Int64[np.ndarray, "n_latents"]
    tie_term: Float64[np.ndarray, "n_latents"]
    set_indptr: Int64[np.ndarray, "n_classes+1"] | None = None
    set_classes: Int32[np.ndarray, "n_members"] | None = None

    @property
    def n_latents(self) -> int:
        """Number of latents, including dead ones."""
        return len(self.n_nonzero)

    @property
    def n_classes(self) -> int:
        """Number of classes, including empty ones; or of label sets."""
        return len(self.class_sizes)

    def latent_fire_counts(self) -> Int64[np.ndarray, "n_latents"]:
        """Number of images on which each latent fires, `N_j`."""
        counts = np.zeros(self.n_latents, np.int64)
        has_entries = np.diff(self.indptr) > 0
        if has_entries.any():
            counts[has_entries] = np.add.reduceat(self.n_fire, self.indptr[:-1][has_entries], dtype=np.int64)
        return counts

    def entries(self, latents: slice) -> tuple[slice, Int64[np.ndarray, "n"]]:
        """The entries of a range of latents, and the row of each entry within the range."""
        first, end, _ = latents.indices(self.n_latents)
        counts = np.diff(self.indptr[first : end + 1])
        return slice(int(self.indptr[first]), int(self.indptr[end])), np.repeat(np.arange(end - first), counts)

    def closure(self, taxonomy: InducedTaxonomy) -> "sp.csr_array[np.uint8]":
        """The closure of the classes or label sets: uint8[n_classes, n_nodes], 1 for the class and its ancestors."""
        if self.set_indptr is None or self.set_classes is None:
            return taxonomy.closure
        has_class = np.ones(len(self.set_classes), np.bool_)
        shape = (self.n_classes, len(taxonomy.classes))
        return closure_of_sets(sp.csr_array((has_class, self.set_classes, self.set_indptr), shape=shape), taxonomy)

    def with_label_sets(self, sets: LabelSets) -> "ClassSums":
        """A copy that also holds the classes of the label sets; for sums by class, the object itself."""
        if sets.members is None:
            return self
        indptr, classes = sets.members.indptr.astype(np.int64), sets.members.indices.astype(np.int32)
        return replace(self, set_indptr=indptr, set_classes=classes)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All fields as named arrays for storage; `from_arrays` is the inverse."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: np.asarray(value) for name, value in values.items() if value is not None}
        arrays["n_images"] = np.array([self.n_images], np.int64)
        arrays["threshold"] = np.array([self.threshold], np.float64)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ClassSums":
        """The inverse of `to_arrays`.

        Raises:
            UserError: an array is missing or the arrays do not fit one another.
        """
        of_sets = not _OF_SETS.isdisjoint(arrays)
        needed = [field.name for field in fields(cls) if of_sets or field.name not in _OF_SETS]
        missing = [name for name in needed if name not in arrays]
        if missing:
            raise UserError(f"stored class sums lack {', '.join(missing)}: run the analysis again")
        values = {name: arrays[name] for name in needed}
        n_entries = len(values["classes"])
        sizes_fit = (
            len(values["indptr"]) == len(values["n_nonzero"]) + 1 == len(values["tie_term"]) + 1
            and values["indptr"][-1] == n_entries
            and all(len(values[name]) == n_entries for name in ("n_fire", "mass", "rank_excess"))
            and values["class_sizes"].sum() == values["n_images"][0]
        )
        if of_sets:
            borders = values["set_indptr"]
            sizes_fit &= len(borders) == len(values["class_sizes"]) + 1 and borders[-1] == len(values["set_classes"])
        if not sizes_fit:
            raise UserError("stored class sums do not fit one another: run the analysis again")
        n_images, threshold = int(values.pop("n_images")[0]), float(values.pop("threshold")[0])
        return cls(n_images=n_images, threshold=threshold, **values)


def sum_by_class(ranked: RankedActivations, labels: Labels, n_classes: int, *, device: Device = "cpu") -> ClassSums:
    """Sum activations and ranks over the images of each class; an image counts for each of its classes.

    Args:
        ranked: activations of every latent with their ranks.
        labels: class of every image, `0 <= label < n_classes`, or the classes of every image.
        n_classes: number of classes of the taxonomy; some may have no image.
        device: device for the sums; the result is in CPU memory.

    Raises:
        UserError: as for `checked_labels`.
    """
    labels = checked_labels(labels, ranked.n_images, n_classes)
    class_bits = (n_classes - 1).bit_length()
    every_label = classes_of(labels, np.arange(ranked.n_images))[1]

    def add_up(latents: slice) -> dict[str, np.ndarray]:
        first, end = ranked.indptr[latents.start], ranked.indptr[latents.stop]
        entry, label = classes_of(labels, ranked.image[first:end])
        value, rank = ranked.activation[first:end], ranked.rank_excess[first:end]
        n_entries = np.diff(ranked.indptr[latents.start : latents.stop + 1])
        if len(entry) > len(value):  # images with several labels
            value, rank = value[entry], rank[entry]
            n_entries = np.diff(np.searchsorted(entry, ranked.indptr[latents.start : latents.stop + 1] - first))
        on_device = (to_device(part, device) for part in (label, value, rank, n_entries))
        found = to_host(_of_block(*on_device, class_bits=class_bits, threshold=ranked.threshold))
        n_cells = int(found["counts"].sum())
        return {name: part if name == "counts" else part[:n_cells] for name, part in found.items()}

    parts = list(map_blocks(add_up, latent_blocks(ranked.indptr, on_gpu=not is_cpu(device)), device))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return ClassSums(
        n_images=ranked.n_images,
        threshold=ranked.threshold,
        class_sizes=np.bincount(every_label, minlength=n_classes).astype(np.int64),
        indptr=np.concatenate(([0], np.cumsum(joined.pop("counts")))).astype(np.int64),
        n_nonzero=np.diff(ranked.indptr),
        tie_term=ranked.tie_term,
        **joined,
    )


def _of_block(
    label: Int64[Tensor, " n"],
    value: Float32[Tensor, " n"],
    rank: Int32[Tensor, " n"],
    n_entries: Int64[Tensor, " n_latents"],
    *,
    class_bits: int,
    threshold: float,
) -> dict[str, Tensor]:
    """Sums by (latent, class) of some latents from their entries, latent by latent, on the device of these.

    On a GPU there are as many sums as entries, because it alone knows how many are needed; those beyond the last mean
    nothing.

    Args:
        label: class of every entry.
        value: its activation.
        rank: its `rank_excess`.
        n_entries: number of entries of every latent.
        class_bits: bits of the greatest class.
        threshold: a latent fires above it.

    Returns:
        Fields of `ClassSums` for these latents; and `counts`, the number of each one's classes.
    """
    n, width = len(label), len(n_entries)
    row = run_numbers(n_entries, n)
    ordered, order = stable_sort((row << class_bits) | label, (width << class_bits) - 1)
    start, cell = groups(ordered)
    length = run_lengths(start, n)
    value, rank = value.index_select(0, order), rank.index_select(0, order)
    n_fire = length  # every non-zero fires
    if threshold > 0:
        n_fire = segment_count(cell, (value > threshold).long(), length)
    end = n_entries.cumsum(0)
    n_cells = pad(cell + 1, (1, 0))  # in all entries before each
    return {
        "classes": (at_starts(ordered, start) & ((1 << class_bits) - 1)).int(),
        "n_fire": n_fire.int(),
        "mass": segment_sum(cell, value.double(), length),
        "rank_excess": segment_count(cell, rank.long(), length),
        "counts": n_cells.index_select(0, end) - n_cells.index_select(0, end - n_entries),
    }
