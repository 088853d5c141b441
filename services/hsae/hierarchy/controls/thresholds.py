"""Baselines at the SAE's own densities: a threshold for every column, set on the select images.

A column that is compared with a latent must fire as often as a latent: one that fires on more images has a greater F1
at large nodes, one that fires on fewer has fewer classes. So the numbers of select images on which the SAE's alive
latents fire are given to the columns, rank by rank, and a column's threshold is the one that fires on so many (ours).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from torch import Tensor

from hsae.hierarchy.controls.bases.columns import Columns
from hsae.hierarchy.kernels.blocks import column_blocks, go_on, ranges
from hsae.hierarchy.kernels.device import Device, is_cpu, to_device, to_host, true_indices
from hsae.hierarchy.kernels.greatest import greatest_values
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.statistics.latent_columns import LatentColumns

_ROOM = 1.25
"""How many times as often columns may fire on the score images as on the select images before the host waits twice."""
_LEAST_ROOM = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Densities:
    """How often the SAE's alive latents fire.

    Attributes:
        n_fire: number of select images on which each fires, descending; at least 1.
    """

    n_fire: Int64[np.ndarray, "n_alive"]

    @classmethod
    def of(cls, n_fire: Int64[np.ndarray, "n_latents"]) -> "Densities":
        """Of the latents' numbers of select images; latents that fire on none are left out."""
        return cls(np.sort(n_fire[n_fire > 0])[::-1])

    def for_columns(self, n_columns: int, *, all_fire: bool = False) -> Int64[np.ndarray, "n_columns"]:
        """The number of select images for each of `n_columns` columns, the densest first.

        With `m` columns that fire, the column of rank `r` (from 0) gets the number of the alive latent of rank
        `floor((r + 1/2) n_alive / m)`: of as many columns as alive latents, each gets that of its own rank.

        Args:
            n_columns: number of columns.
            all_fire: whether `m` is `n_columns`; otherwise it is at most the number of alive latents, and the columns
                left over get 0: a basis has as many silent columns as the SAE has dead latents.
        """
        n_alive = len(self.n_fire)
        m = n_columns if all_fire else min(n_columns, n_alive)
        counts = np.zeros(n_columns, np.int64)
        if n_alive:
            counts[:m] = self.n_fire[(2 * np.arange(m) + 1) * n_alive // (2 * m)]
        return counts


def thresholds(
    values: Float32[Tensor, "n_columns n_chosen"], n_fire: Int64[np.ndarray, "n_columns"]
) -> Float32[Tensor, "n_columns"]:
    """For every column the threshold above which it has `n_fire` values, or, with ties at the cut, as many as fit.

    The threshold lies half-way between the last value that is above and the first that is not (rounded to float32, but
    always below the former). A tie at the cut is not split: none of its values is above. A column fires on one image
    less than all at most; the threshold of one that must not fire is infinite.

    Columns that fire about as often belong together: of each, as many values are put in order as the densest needs.
    """
    n_wanted = to_device(np.minimum(n_fire, values.shape[1] - 1), values.device)
    n_greatest = int(np.minimum(n_fire, values.shape[1] - 1).max(initial=0)) + 1
    greatest = greatest_values(values, n_greatest)
    last = greatest.gather(1, (n_greatest - n_wanted).clamp(max=n_greatest - 1)[:, None])[:, 0]
    next_ = greatest.gather(1, (n_greatest - 1 - n_wanted)[:, None])[:, 0]
    middle = ((last.double() + next_.double()) / 2).float()
    cut = torch.where(middle < last, middle, next_)
    return torch.where(n_wanted > 0, cut, torch.inf)


def thresholded(
    select: Columns,
    score: Columns,
    n_fire: Int64[np.ndarray, "n_columns"],
    *,
    device: Device = "cpu",
    check: Callable[[], None] = go_on,
) -> tuple[LatentColumns, LatentColumns]:
    """The columns above their thresholds: `value - threshold` where that is positive, like a ReLU latent with a bias.

    Columns are projected in blocks, each in one thread; besides the result, memory holds a few blocks. A block's values
    stay on the device, of which only what fires leaves it. The host waits for a GPU once for a block, and once more
    where columns fire on far more score images than their number of select images lets expect.

    Args:
        select: the columns on the images that set the thresholds.
        score: the same columns on the images that are scored; in-sample the same object.
        n_fire: number of select images for each column, in the order of `select.order`; 0 only at the end.
        device: where the columns are projected: one thread per block of columns on the CPU.
        check: called for every block of columns; may raise to stop.

    Returns:
        What fires on the select images, and on the score images; in-sample one object.
    """
    parts = [select] if select is score else [select, score]

    def fire(block: slice) -> list[_Fired]:
        chosen, n_most = select.order[block], int(n_fire[block].sum())
        values = select.values(chosen)
        cut = thresholds(values, n_fire[block])
        found = [_above(values, cut, n_most)]
        for part in parts[1:]:
            del values  # one block of values at a time
            values = part.values(chosen)
            found.append(_above(values, cut, int(_ROOM * n_most * part.n_images / select.n_images) + _LEAST_ROOM))
        arrays = _fetched(found)
        n_last = int(arrays[-1]["n_fire"].sum())
        if n_last > len(arrays[-1]["image"]):  # their values are still there
            arrays[-1] = _fetched([_above(values, cut, n_last)])[0]
        return [_Fired.of(part) for part in arrays]

    n_firing = int(np.count_nonzero(n_fire))  # the columns that do not fire come last
    blocks = column_blocks(n_firing, max(part.n_images for part in parts), on_gpu=not is_cpu(device))
    of_blocks: list[list[_Fired]] = []
    for found in map_blocks(fire, blocks, device, may_cut=False):
        check()
        of_blocks.append(found)
    joined = [
        _joined([found[place] for found in of_blocks], select.order, part.n_images) for place, part in enumerate(parts)
    ]
    return joined[0], joined[-1]


class _Fired(NamedTuple):
    """What fires of some columns, column by column, images ascending.

    n_fire: of every column; image, value: of every firing.
    """

    n_fire: Int64[np.ndarray, "n_columns"]
    image: Int32[np.ndarray, "n"]
    value: Float32[np.ndarray, "n"]

    @classmethod
    def of(cls, found: Mapping[str, np.ndarray]) -> "_Fired":
        """What `_above` found."""
        n = int(found["n_fire"].sum())
        return cls(found["n_fire"], found["image"][:n], found["value"][:n])


def _above(
    values: Float32[Tensor, "n_columns n_chosen"], cut: Float32[Tensor, "n_columns"], n_most: int
) -> dict[str, Tensor]:
    """What fires, on the device: named as in `_Fired`.

    On a GPU the number of firings is `n_most`: of more the last are missing, of fewer the last mean nothing.
    """
    n_chosen = values.shape[1]
    is_above = values > cut[:, None]
    if is_cpu(values.device):
        place = true_indices(is_above.reshape(-1))
    else:
        n_most = min(n_most, values.numel())
        place = torch.nonzero_static(is_above.reshape(-1), size=n_most, fill_value=0)[:, 0]
    column, image = place.div(n_chosen, rounding_mode="floor"), place.remainder(n_chosen)
    value = values.reshape(-1).index_select(0, place)
    value -= cut.index_select(0, column)
    n_fire = torch.bincount(column, minlength=len(values)) if is_cpu(values.device) else is_above.sum(dim=1)
    return {"n_fire": n_fire, "image": image.int(), "value": value}


def _fetched(parts: list[dict[str, Tensor]]) -> list[dict[str, np.ndarray]]:
    """What was found, in CPU memory; one wait for all parts."""
    arrays = to_host({f"{place} {name}": tensor for place, part in enumerate(parts) for name, tensor in part.items()})
    return [{name: arrays[f"{place} {name}"] for name in part} for place, part in enumerate(parts)]


def _joined(found: list[_Fired], order: Int64[np.ndarray, "n_columns"], n_images: int) -> LatentColumns:
    """The columns in their own order, from blocks of them in the order `order`, of which the last may be missing."""
    n_fire = np.zeros(len(order), np.int64)
    in_order = [part.n_fire for part in found]
    n_of = np.concatenate(in_order) if in_order else np.empty(0, np.int64)
    n_fire[order[: len(n_of)]] = n_of
    start = np.zeros(len(order), np.int64)
    start[order[: len(n_of)]] = np.cumsum(n_of) - n_of
    entry, _ = ranges(start, n_fire)
    image = np.concatenate([part.image for part in found]) if found else np.empty(0, np.int32)
    value = np.concatenate([part.value for part in found]) if found else np.empty(0, np.float32)
    return LatentColumns(n_images, np.concatenate(([0], np.cumsum(n_fire))), image[entry], value[entry])
