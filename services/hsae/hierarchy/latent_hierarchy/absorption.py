"""Absorption per node: the parent latent is silent, the node's direction is there, and another latent carries it."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Float64, Int, Int32, Int64

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.latent_hierarchy.carriers import carriers
from hsae.hierarchy.latent_hierarchy.directions import (
    ImagesUnder,
    Threshold,
    best_threshold,
    mean_differences,
    projections,
    random_halves,
)

N_RANDOM_DIRECTIONS = 20
"""Number of random directions that tell what share of images chance absorbs (ours)."""

_BLOCK_NODES = 64
"""Nodes at once: their projections of 50,000 images are 26 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class WrittenImages:
    """The images as an SAE reads and writes them, in the SAE's own scale.

    Attributes:
        inputs: the SAE's input less its pre-bias, which `z @ decoder` reconstructs.
        z: activation of every latent; one that is not above the threshold counts as 0. It has the first images alone
            where the others only train.
        decoder: the direction that every latent writes.
        train: the images that directions are fitted on, ascending; in-sample, all three parts are all images.
        select: the images that thresholds are chosen on.
        score: the images on which absorption is counted.
        threshold: a latent fires where its activation is greater.
    """

    inputs: Float32[np.ndarray, "n_images d_model"]
    z: "sp.csr_array[np.float32]"
    decoder: Float32[np.ndarray, "n_latents d_model"]
    train: Int64[np.ndarray, "n"]
    select: Int64[np.ndarray, "n"]
    score: Int64[np.ndarray, "n"]
    threshold: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class NodeAbsorption:
    """One row per node that was asked for, in that order; NaN where undefined.

    Attributes:
        node: index into `InducedTaxonomy.synsets`.
        latent: the node's best latent, the parent.
        n_images: scored images under the node.
        latent_f1: F1 of the latent at the node on the scored images.
        direction_threshold: projection from which on the direction counts as present.
        direction_f1_select: F1 of that threshold for the node on the selecting images, the best of any threshold.
        direction_f1: its F1 on the scored images.
        n_present: scored images under the node on which the direction is present.
        n_silent: those of them on which the parent is silent.
        n_absorbed: those of them on which another latent carries the direction.
        silent_share: `n_silent / n_present`.
        absorbed_share: `n_absorbed / n_present`.
        random_absorbed_share: the same, but asked of random directions whether a latent carries them; the mean.
        carrier: the latent that carries the direction on most absorbed images (ties: the lowest index), -1 without any.
        n_carrier: absorbed images on which that latent does.
    """

    node: Int32[np.ndarray, "n_rows"]
    latent: Int32[np.ndarray, "n_rows"]
    n_images: Int32[np.ndarray, "n_rows"]
    latent_f1: Float64[np.ndarray, "n_rows"]
    direction_threshold: Float64[np.ndarray, "n_rows"]
    direction_f1_select: Float64[np.ndarray, "n_rows"]
    direction_f1: Float64[np.ndarray, "n_rows"]
    n_present: Int32[np.ndarray, "n_rows"]
    n_silent: Int32[np.ndarray, "n_rows"]
    n_absorbed: Int32[np.ndarray, "n_rows"]
    silent_share: Float64[np.ndarray, "n_rows"]
    absorbed_share: Float64[np.ndarray, "n_rows"]
    random_absorbed_share: Float64[np.ndarray, "n_rows"]
    carrier: Int32[np.ndarray, "n_rows"]
    n_carrier: Int32[np.ndarray, "n_rows"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class _Counts(NamedTuple):
    """Of one node: the columns of `NodeAbsorption` that are counted or averaged, and the carrier."""

    n_images: int
    latent_f1: float
    threshold: Threshold
    f1: float
    n_present: int
    n_silent: int
    n_absorbed: int
    n_by_chance: float
    carrier: int
    n_carrier: int


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """What every node asks of the scored images.

    Attributes:
        fired: activations that fire, image by image, latents ascending.
        by_latent: the same, latent by latent.
        length: of every latent's decoder.
        is_carried_by_chance: for every random direction and image, whether a latent carries it.
    """

    fired: "sp.csr_array[np.float64]"
    by_latent: "sp.csc_array[np.float64]"
    length: Float64[np.ndarray, "n_latents"]
    is_carried_by_chance: Bool[np.ndarray, "n_directions n"]


def node_absorption(
    written: WrittenImages,
    under: ImagesUnder,
    node: Int[np.ndarray, "n_rows"],
    latent: Int[np.ndarray, "n_rows"],
    *,
    seed: int = 0,
    check: Callable[[], None] = go_on,
) -> NodeAbsorption:
    """Count at some nodes, each with its best latent, on how many images another latent absorbs it.

    After arXiv 2409.14507, adapted from first letters to nodes (ours): the direction is a mean difference in place of a
    logistic probe's, and the absorbing latent is the one with the greatest contribution to the projection, as in
    SAEBench, where the paper looks for it by ablation. For a node `v` with the parent latent `p` and a scored image `i`
    under it, with `u` the unit direction from the mean of the training images outside `v` to the mean of those inside:

    - present: `<x_i, u>` is positive, and at least the threshold with the best F1 for `v` on the selecting images.
    - silent: `p` does not fire.
    - carried: of all firing latents the one with the greatest `z_ij <w_j, u>` (ties: the lowest index) contributes at
      least 0.4 of `<x_i, u>`, and the cosine of its decoder with `u` is at least 0.025.

    The image is absorbed where all three hold. Chance: whether a latent carries is asked of 20 random directions
    (`random_halves`), each turned so that the image's projection is positive (ours).

    Args:
        written: the SAE on all images.
        under: which images lie under which node.
        node: the nodes that are asked for.
        latent: the best latent of each.
        seed: seed of the random directions.
        check: called for every block of nodes; may raise to stop.

    Raises:
        UserError: inputs, activations and decoder do not fit together, or hold NaN or infinite values.
    """
    _check(written)
    directions = mean_differences(written.inputs, written.train, under, node)
    scored = _scored(written, seed)
    every_latent = np.arange(len(written.decoder))

    def of_block(block: slice) -> list[_Counts]:
        select = projections(directions[block], written.inputs, written.select)
        score = projections(directions[block], written.inputs, written.score)
        writes = projections(directions[block], written.decoder, every_latent)
        counts = []
        for place, row in enumerate(range(block.start, block.stop)):
            inside = under.inside(int(node[row]))
            threshold = best_threshold(select[place], inside[written.select])
            counts.append(
                _count(scored, score[place], writes[place], inside[written.score], threshold, int(latent[row]))
            )
        return counts

    blocks = [slice(first, min(first + _BLOCK_NODES, len(node))) for first in range(0, len(node), _BLOCK_NODES)]
    rows: list[_Counts] = []
    for counts in map_blocks(of_block, blocks, "cpu"):
        check()
        rows += counts
    return _table(node, latent, rows)


def _scored(written: WrittenImages, seed: int) -> _Scored:
    z = written.z[written.score]
    fires = z.data > written.threshold
    fired = sp.csr_array((np.where(fires, z.data, 0).astype(np.float64), z.indices, z.indptr), shape=z.shape)
    fired.eliminate_zeros()
    fired.sort_indices()
    length = np.sqrt(np.einsum("jd,jd->j", written.decoder, written.decoder, dtype=np.float64))
    random = random_halves(written.inputs, written.train, N_RANDOM_DIRECTIONS, seed)
    along = projections(random, written.inputs, written.score)
    writes = projections(random, written.decoder, np.arange(len(written.decoder)))
    everywhere = np.arange(len(written.score))
    is_carried = [
        carriers(fired, everywhere, projection, contribution, length) >= 0
        for projection, contribution in zip(along, writes, strict=True)
    ]
    return _Scored(fired, sp.csc_array(fired), length, np.stack(is_carried))


def _count(
    scored: _Scored,
    projection: Float64[np.ndarray, "n"],
    contribution: Float64[np.ndarray, "n_latents"],
    is_inside: Bool[np.ndarray, "n"],
    threshold: Threshold,
    latent: int,
) -> _Counts:
    n_images = int(is_inside.sum())
    by_latent = scored.by_latent
    is_silent = np.ones(len(projection), np.bool_)
    is_silent[by_latent.indices[by_latent.indptr[latent] : by_latent.indptr[latent + 1]]] = False
    latent_f1 = _f1(~is_silent, is_inside)
    if np.isnan(threshold.value):
        return _Counts(n_images, latent_f1, threshold, np.nan, 0, 0, 0, np.nan, -1, 0)
    is_above = projection >= threshold.value
    present = is_above & is_inside
    silent = np.flatnonzero(present & is_silent)
    found = carriers(scored.fired, silent, projection[silent], contribution, scored.length)
    latents, n_of_latent = np.unique(found[found >= 0], return_counts=True)
    most = int(np.argmax(n_of_latent)) if len(latents) else -1
    return _Counts(
        n_images,
        latent_f1,
        threshold,
        _f1(is_above, is_inside),
        n_present=int(present.sum()),
        n_silent=len(silent),
        n_absorbed=int(n_of_latent.sum()),
        n_by_chance=float(scored.is_carried_by_chance[:, silent].sum(axis=1).mean()),
        carrier=int(latents[most]) if len(latents) else -1,
        n_carrier=int(n_of_latent[most]) if len(latents) else 0,
    )


def _f1(is_positive: Bool[np.ndarray, "n"], is_inside: Bool[np.ndarray, "n"]) -> float:
    n_inside = int(is_inside.sum())
    return 2.0 * int((is_positive & is_inside).sum()) / (int(is_positive.sum()) + n_inside) if n_inside else np.nan


def _table(node: Int[np.ndarray, "n_rows"], latent: Int[np.ndarray, "n_rows"], rows: list[_Counts]) -> NodeAbsorption:
    def integers(values: list[int]) -> Int32[np.ndarray, "n_rows"]:
        return np.array(values, np.int32).reshape(len(rows))

    def floats(values: list[float]) -> Float64[np.ndarray, "n_rows"]:
        return np.array(values, np.float64).reshape(len(rows))

    n_present = integers([row.n_present for row in rows])
    of_present = np.where(n_present > 0, n_present, np.nan)
    n_silent, n_absorbed = integers([row.n_silent for row in rows]), integers([row.n_absorbed for row in rows])
    return NodeAbsorption(
        node=node.astype(np.int32),
        latent=latent.astype(np.int32),
        n_images=integers([row.n_images for row in rows]),
        latent_f1=floats([row.latent_f1 for row in rows]),
        direction_threshold=floats([row.threshold.value for row in rows]),
        direction_f1_select=floats([row.threshold.f1 for row in rows]),
        direction_f1=floats([row.f1 for row in rows]),
        n_present=n_present,
        n_silent=n_silent,
        n_absorbed=n_absorbed,
        silent_share=n_silent / of_present,
        absorbed_share=n_absorbed / of_present,
        random_absorbed_share=floats([row.n_by_chance for row in rows]) / of_present,
        carrier=integers([row.carrier for row in rows]),
        n_carrier=integers([row.n_carrier for row in rows]),
    )


def _check(written: WrittenImages) -> None:
    n_images, n_latents = written.z.shape
    is_known = len(written.inputs) >= n_images and (written.score < n_images).all()
    if not is_known or written.decoder.shape != (n_latents, written.inputs.shape[1]):
        raise UserError(
            f"inputs {list(written.inputs.shape)}, latent activations {[n_images, n_latents]} and decoder "
            f"{list(written.decoder.shape)} do not fit together: give one row per image and one direction per latent"
        )
    for name, values in (("inputs", written.inputs), ("decoder directions", written.decoder)):
        if not np.isfinite(values).all():
            raise UserError(f"the {name} of the SAE hold NaN or infinite values: check the SAE and its activations")
