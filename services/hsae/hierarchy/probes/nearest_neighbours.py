"""Exact k nearest neighbours by cosine similarity, and their vote."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from hsae.errors import UserError
from hsae.hierarchy.kernels.back_off import in_parts
from hsae.hierarchy.kernels.device import to_device, to_host

TEMPERATURE = 0.07
"""A neighbour of similarity `s` votes with weight `exp(s / TEMPERATURE)`."""

_BLOCK_VALUES = 1 << 23
_DECIMALS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The reference rows nearest to every query row, nearest first, ties by row.

    Attributes:
        rows: indices of the reference rows.
        similarity: their cosine similarity, rounded to 12 decimals.
    """

    rows: Int64[np.ndarray, "n_queries k"]
    similarity: Float64[np.ndarray, "n_queries k"]


def nearest_neighbours(
    queries: Float[Tensor, "n_queries n_features"],
    references: Float[Tensor, "n_references n_features"],
    k: int,
    *,
    check: Callable[[], None],
) -> Neighbours:
    """The `k` nearest reference rows (all, if there are fewer) by cosine similarity, without approximation.

    Similarities are float64, because the class tokens of early layers hardly differ in direction. They are rounded to
    12 decimals, so that equal rows tie in any order of summation. A row of zeros has similarity 0 to every row.

    Args:
        queries: rows whose neighbours are searched.
        references: candidate rows, on the same device.
        k: number of neighbours per row.
        check: called at every block; may raise to stop.

    Raises:
        UserError: `k` is less than 1.
    """
    if k < 1:
        raise UserError(f"{k} nearest neighbours were asked for: ask for at least 1")
    n_queries, n_references = len(queries), len(references)
    k = min(k, n_references)
    unit_references = _unit_rows(references).T
    rows, similarity = np.empty((n_queries, k), np.int64), np.empty((n_queries, k))

    def search(here: slice) -> None:
        check()
        block = torch.round(_unit_rows(queries[here]) @ unit_references, decimals=_DECIMALS)
        rows[here], similarity[here] = _strongest(block, k)

    height = max(1, _BLOCK_VALUES // max(1, n_references))
    blocks = (slice(first, min(first + height, n_queries)) for first in range(0, n_queries, height))
    for _ in in_parts(search, blocks, queries.device):
        pass  # each block writes to its own part of the arrays
    return Neighbours(rows, similarity)


def vote(neighbours: Neighbours, groups: Int[np.ndarray, "n_references"]) -> Int[np.ndarray, "n_queries"]:
    """The group with the greatest weight among each row's neighbours; ties: the smaller group.

    A neighbour of similarity `s` weighs `exp(s / 0.07)`, as in the evaluation of DINO (arXiv 2104.14294), after Wu
    et al. (arXiv 1805.01978).

    Args:
        neighbours: from `nearest_neighbours`.
        groups: group of every reference row.
    """
    candidates = groups[neighbours.rows]
    weight = np.exp(neighbours.similarity / TEMPERATURE)
    votes = np.zeros_like(weight)
    for voter in range(weight.shape[1]):
        votes += weight[:, [voter]] * (candidates == candidates[:, [voter]])
    is_best = votes == votes.max(axis=1, keepdims=True)
    winner: Int[np.ndarray, "n_queries"] = np.where(is_best, candidates, np.iinfo(candidates.dtype).max).min(axis=1)
    return winner


def _unit_rows(x: Float[Tensor, "n_rows n_features"]) -> Float64[Tensor, "n_rows n_features"]:
    exact = x.to(torch.float64)
    length = torch.linalg.vector_norm(exact, dim=1, keepdim=True)
    return exact / torch.where(length > 0, length, torch.ones_like(length))


def _strongest(
    similarity: Float64[Tensor, "n_rows n_columns"], k: int
) -> tuple[Int64[np.ndarray, "n_rows k"], Float64[np.ndarray, "n_rows k"]]:
    """Columns and values of the `k` greatest, greatest first, ties by column; in CPU memory."""
    # Take one more than needed: if it is smaller than the last one, no tie was cut and the set is correct.
    values, columns = similarity.topk(min(k + 1, similarity.shape[1]), dim=1)
    is_cut = values[:, k:] == values[:, k - 1 : k]
    columns, order = columns[:, :k].sort(dim=1)
    values, order = values[:, :k].gather(1, order).sort(dim=1, descending=True, stable=True)
    found = to_host({"columns": columns.gather(1, order), "values": values, "is_cut": is_cut})
    cut = np.flatnonzero(found["is_cut"].any(axis=1))
    if len(cut):
        rows = similarity.index_select(0, to_device(cut, similarity.device))
        ordered = rows.sort(dim=1, descending=True, stable=True)
        whole = to_host({"columns": ordered.indices[:, :k], "values": ordered.values[:, :k]})
        found["columns"][cut], found["values"][cut] = whole["columns"], whole["values"]
    return found["columns"], found["values"]
