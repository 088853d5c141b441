"""The n largest positive entries of a whole matrix, also where it comes in parts: what BatchTopK selects.

Among equal entries the first by row, then by column, are taken, so that exactly n are (fewer where fewer are positive).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hsae.sae.kernels.devices import ways
from hsae.sae.kernels.entries import Entries
from hsae.sae.kernels.selection import true_places

_SAMPLE_STRIDE = 97
_SAMPLED_FROM = 1 << 16
_SAMPLE_SLACK = 1.25


@dataclass(frozen=True, slots=True)
class Cut:
    """Which entries of one part are among the n largest of all parts.

    Attributes:
        least: float32[], the smallest of the n entries; infinity: there is none.
        n_equal: int64[], how many entries of this part that equal `least` are among them: the first ones.
    """

    least: Float[Tensor, ""]
    n_equal: Int[Tensor, ""]


def cuts_of_parts(parts: Iterable[Float[Tensor, "n_rows n_latents"]], n: int) -> list[Cut]:
    """The cut of every part of a matrix that comes in parts of some rows each.

    Of each part no more than its n largest entries are kept in memory.
    """
    return _cuts([_largest(_candidates(part.flatten(), n)[1], n) for part in parts], n)


def largest_entries(pre: Float[Tensor, "n_rows n_latents"], n: int) -> tuple[Entries, Float[Tensor, ""]]:
    """The n largest positive entries of a matrix, and the smallest of them (infinity where there is none)."""
    places, values = _candidates(pre.flatten(), n)
    (cut,) = _cuts([values], n)
    within = _within(values, cut)
    if ways(pre.device).counts_are_cheap:
        return _entries(pre, places[within]), cut.least
    chosen = torch.nonzero_static(within, size=min(n, places.shape[0])).flatten()  # so many there are, ties or not
    return _entries(pre, places[chosen]), cut.least


def entries_of_cut(pre: Float[Tensor, "n_rows n_latents"], cut: Cut) -> Entries:
    """The entries of one part that its cut selects."""
    flat = pre.flatten()
    reaches = flat >= cut.least
    if ways(pre.device).counts_are_cheap:
        places = true_places(reaches)
        return _entries(pre, places[_within(flat[places], cut)])
    # Both numbers in one piece, so that the host waits once.
    n_reaching, n_within = torch.stack([reaches.sum(), (flat > cut.least).sum() + cut.n_equal]).tolist()
    places = true_places(reaches, n_reaching)
    return _entries(pre, places[true_places(_within(flat[places], cut), n_within)])


def _candidates(flat: Float[Tensor, "all"], n: int) -> tuple[Int[Tensor, "n_entries"], Float[Tensor, "n_entries"]]:
    """Places and values of positive entries, in order; the n largest are among them, with all that equal these."""
    guess = _guess(flat, n)
    if guess is None:
        places = true_places(flat > 0)
    elif ways(flat.device).counts_are_cheap:
        places = true_places(flat > guess)
        if places.shape[0] < n:
            places = true_places(flat > 0)
    else:  # it is asked at once what would be asked after a wrong guess, so that the host waits once
        above, positive = flat > guess, flat > 0
        n_above, n_positive = torch.stack([above.sum(), positive.sum()]).tolist()
        places = true_places(above, n_above) if n_above >= n else true_places(positive, n_positive)
    return places, flat[places]


def _guess(flat: Float[Tensor, "all"], n: int) -> Float[Tensor, ""] | None:
    """A number that is probably below the n-th largest, but not far: from a sample. A wrong one costs time only.

    None where a sample would not pay.
    """
    if flat.shape[0] < _SAMPLED_FROM:
        return None
    sample = flat[::_SAMPLE_STRIDE]
    rank = int(_SAMPLE_SLACK * n / _SAMPLE_STRIDE) + 16
    if rank >= sample.shape[0]:
        return None
    return _kth_largest(sample, rank + 1).clamp_min(0)


def _largest(values: Float[Tensor, "n_entries"], n: int) -> Float[Tensor, "n"]:
    return values if values.shape[0] <= n else values.topk(n, sorted=False).values


def _cuts(parts: list[Float[Tensor, "n_entries"]], n: int) -> list[Cut]:
    """The cut of every part, given values among which are the part's n largest."""
    values = torch.cat(parts)
    if values.shape[0] == 0:
        return [Cut(values.new_full((), torch.inf), torch.zeros((), dtype=torch.int64, device=values.device))] * len(
            parts
        )
    least = _kth_largest(values, min(n, values.shape[0]))
    left = n - (values > least).sum()
    cuts = []
    for part in parts:
        n_equal = torch.minimum((part == least).sum(), left)
        left = left - n_equal
        cuts.append(Cut(least, n_equal))
    return cuts


def _kth_largest(values: Float[Tensor, "n_entries"], k: int) -> Float[Tensor, ""]:
    # On CUDA kthvalue is no deterministic algorithm by torch's book: which of equals it takes may change.
    if values.device.type == "cpu":
        return values.kthvalue(values.shape[0] - k + 1).values
    return values.topk(k).values[-1]


def _within(values: Float[Tensor, "n_entries"], cut: Cut) -> Tensor:
    equal = values == cut.least
    return (values > cut.least) | (equal & (equal.cumsum(0) <= cut.n_equal))


def _entries(pre: Float[Tensor, "n_rows n_latents"], places: Int[Tensor, "n_entries"]) -> Entries:
    rows = places.div(pre.shape[1], rounding_mode="floor")
    return Entries(rows, places - rows * pre.shape[1], *pre.shape)
