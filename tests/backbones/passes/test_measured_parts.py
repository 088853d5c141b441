"""Batches in parts: taken only where they are faster and give the bits of the whole."""

import pytest
import torch
from torch import Tensor

from hsae.backbones.passes import measured_parts
from hsae.backbones.passes.measured_parts import MeasuredParts


class Model:
    """Doubles its images; `cost` gives the seconds of a part by its size, which the clock of the module sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: dict[int, float], wrong_at: int = 0) -> None:
        self.now, self.sizes, self.cost, self.wrong_at = 0.0, list[int](), cost, wrong_at
        monkeypatch.setattr(measured_parts, "perf_counter", lambda: self.now)

    def __call__(self, pixel_values: Tensor) -> dict[int, Tensor]:
        n_images = len(pixel_values)
        self.sizes.append(n_images)
        self.now += self.cost[n_images]
        return {1: pixel_values * 2, 4: pixel_values + (1e-6 if n_images == self.wrong_at else 0)}


def sizes_after_measuring(model: Model, n_images: int = 32) -> list[int]:
    parts, pixels = MeasuredParts(measured_at=2), torch.rand(n_images, 3, 2, 2)
    for _ in range(3):
        model.sizes.clear()
        found = parts(pixels, "cls", model)
        assert torch.equal(found[1], pixels * 2)
        assert torch.equal(found[4], pixels)
    return model.sizes


def test_the_fastest_size_with_the_same_bits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sizes_after_measuring(Model(monkeypatch, {32: 1.0, 16: 0.45, 8: 0.2})) == [8] * 4
    assert sizes_after_measuring(Model(monkeypatch, {32: 1.0, 16: 0.4, 8: 0.24})) == [16] * 2


def test_what_is_hardly_faster_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sizes_after_measuring(Model(monkeypatch, {32: 1.0, 16: 0.49, 8: 0.26})) == [32]


@pytest.mark.parametrize(("wrong_at", "taken"), [(8, [16] * 2), (16, [32])])
def test_other_bits_are_never_taken(monkeypatch: pytest.MonkeyPatch, wrong_at: int, taken: list[int]) -> None:
    assert sizes_after_measuring(Model(monkeypatch, {32: 1.0, 16: 0.4, 8: 0.1}, wrong_at=wrong_at)) == taken


def test_a_batch_that_cannot_be_divided_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sizes_after_measuring(Model(monkeypatch, {7: 1.0}), n_images=7) == [7]
    assert sizes_after_measuring(Model(monkeypatch, {4: 1.0}), n_images=4) == [4]


def test_every_shape_and_kind_is_measured_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(monkeypatch, {32: 1.0, 16: 0.4, 8: 0.1, 31: 1.0})
    parts, pixels = MeasuredParts(measured_at=1), torch.rand(32, 3, 2, 2)
    parts(pixels, "cls", model)
    model.sizes.clear()
    parts(pixels[:31], "cls", model)
    parts(pixels, "cls", model)
    parts(pixels, "patches", model)
    assert model.sizes == [31, *[8] * 4, 32, 16, 16, *[8] * 4]
