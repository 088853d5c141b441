"""Batches in parts on a processor, where that is faster and gives the same bits: measured while the work goes on.

A smaller part stays in the processor's caches: on two cores DINOv2-S in bfloat16 takes a tenth less processors' time in
parts of 8 or 16 images than with 32 at once. Which order sums are made in depends on the shapes alone, and not on the
numbers. So a division that gave the bits of the whole batch once, in all layers, gives them for every batch of that
shape.
"""

from collections.abc import Callable, Hashable, Mapping
from time import perf_counter

import torch
from torch import Tensor

Compute = Callable[[Tensor], dict[int, Tensor]]
"""From pixel values to activations by layer, images along the first dimension of both."""

MEASURED_AT = 32
"""Late enough for the caches to be warm, and for so much work that measuring, two batches at most, does not matter."""
_DIVISORS = (2, 4)
_LEAST_IMAGES = 4
# Others work on the machine, too: what is not clearly faster is taken for noise.
_CLEARLY_FASTER = 0.95


class MeasuredParts:
    """How many images of a batch are computed at once; all of them, until a division was seen to be better."""

    def __init__(self, measured_at: int = MEASURED_AT) -> None:
        """Measure at so many calls with a batch of the same kind."""
        self._measured_at = measured_at
        self._n_calls: dict[Hashable, int] = {}
        self._n_at_once: dict[Hashable, int] = {}

    def __call__(self, pixel_values: Tensor, kind: str, compute: Compute) -> dict[int, Tensor]:
        """What `compute` gives for the whole batch, to the bit.

        Args:
            pixel_values: float32[batch, 3, height, width].
            kind: of the results; with the shape of the batch it says what was measured before.
            compute: its results do not depend on the other images of a batch, but for their last bits.
        """
        measured = (kind, *pixel_values.shape)
        if measured in self._n_at_once:
            return _in_parts(pixel_values, self._n_at_once[measured], compute)
        self._n_calls[measured] = n_calls = self._n_calls.get(measured, 0) + 1
        if n_calls < self._measured_at:
            return compute(pixel_values)
        start = perf_counter()
        whole = compute(pixel_values)
        self._n_at_once[measured] = _best(pixel_values, whole, perf_counter() - start, compute)
        return whole


def _best(pixel_values: Tensor, whole: Mapping[int, Tensor], seconds: float, compute: Compute) -> int:
    """The number of images at once that is clearly faster than the whole batch and gives its bits."""
    best, least = len(pixel_values), seconds * _CLEARLY_FASTER
    for divisor in _DIVISORS:
        n_at_once, rest = divmod(len(pixel_values), divisor)
        if rest or n_at_once < _LEAST_IMAGES:
            break
        start = perf_counter()
        found = _in_parts(pixel_values, n_at_once, compute)
        taken = perf_counter() - start
        if not all(torch.equal(found[layer], values) for layer, values in whole.items()):
            break
        if taken < least:
            best, least = n_at_once, taken
    return best


def _in_parts(pixel_values: Tensor, n_at_once: int, compute: Compute) -> dict[int, Tensor]:
    if n_at_once == len(pixel_values):
        return compute(pixel_values)
    parts = [compute(part) for part in torch.split(pixel_values, n_at_once)]
    return {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}
