"""The greatest values of every row of a matrix, on the device that holds it; only what was found leaves a GPU."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

_NOTHING = -float("inf")


def sorted_rows(values: Float[Tensor, "n_rows n"]) -> Float[Tensor, "n_rows n"]:
    """Every row in ascending order (no NaN); `values` may be overwritten."""
    if values.device.type == "cpu":
        values.numpy().sort(axis=1)  # vectorised, several times as fast as torch's
        return values
    return values.sort(dim=1).values


def greatest_values(values: Float[Tensor, "n_rows n"], n_greatest: int) -> Float[Tensor, "n_rows n_greatest"]:
    """The `n_greatest` greatest values of every row (no NaN), ascending, ties as often as they occur.

    They are selected, not sorted: a column that fires on one image in two hundred needs the order of these alone.
    """
    n = values.shape[1]
    if values.device.type != "cpu":
        return values.topk(n_greatest, dim=1).values.flip(1)
    selected = np.partition(values.numpy(), n - n_greatest, axis=1)[:, n - n_greatest :]
    selected.sort(axis=1)
    return torch.from_numpy(selected)


def best_of_rows(
    scores: Float[Tensor, "n_rows n"], n_best: int
) -> tuple[Int64[Tensor, "n_rows n_best"], Float[Tensor, "n_rows n_best"]]:
    """The places and values of the greatest scores of every row, greatest first, the lower place on ties.

    `torch.topk` leaves the order of ties open. A maximum of every row, `n_best` times, does not.

    Args:
        scores: no NaN; overwritten.
        n_best: how many of each row; at most its length.
    """
    n_best = min(n_best, scores.shape[1])
    if scores.device.type == "cpu":
        places_here, values_here = _best_on_cpu(scores.numpy(), n_best)
        return torch.from_numpy(places_here), torch.from_numpy(values_here)
    places, values = [], []
    for _ in range(n_best):
        place = scores.argmax(dim=1, keepdim=True)  # the first of several greatest ones
        places.append(place)
        values.append(scores.gather(1, place))
        scores.scatter_(1, place, _NOTHING)
    return torch.cat(places, dim=1), torch.cat(values, dim=1)


def _best_on_cpu(
    scores: Float[np.ndarray, "n_rows n"], n_best: int
) -> tuple[Int64[np.ndarray, "n_rows n_best"], Float[np.ndarray, "n_rows n_best"]]:
    rows = np.arange(len(scores))
    places = np.empty((len(scores), n_best), np.int64)
    values = np.empty((len(scores), n_best), scores.dtype)
    for rank in range(n_best):
        places[:, rank] = scores.argmax(axis=1)  # vectorised, unlike torch's
        values[:, rank] = scores[rows, places[:, rank]]
        scores[rows, places[:, rank]] = _NOTHING
    return places, values
