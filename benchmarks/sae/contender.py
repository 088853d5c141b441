"""What the trainings that are compared have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from hsae.sae.rows.order import BatchOrder


@dataclass(frozen=True, slots=True)
class Setting:
    """What is trained, the same for all.

    Attributes:
        rows: float32[n_rows, d_model], the rows to train on.
        n_latents: size of the dictionary.
        batch_size: rows a step.
        n_steps: steps of the schedule.
        k: latents that fire on a row, or the L0 that is aimed at.
        seed: of everything random.
    """

    rows: Float[Tensor, "n_rows d_model"]
    n_latents: int
    batch_size: int
    n_steps: int
    k: int = 32
    seed: int = 0

    @property
    def d_model(self) -> int:
        """Length of a row."""
        return self.rows.shape[1]

    def order(self) -> BatchOrder:
        """The batches of hsae; the others get the same ones."""
        return BatchOrder(self.rows.shape[0], self.batch_size, self.seed)


class Fit(NamedTuple):
    """What a trained SAE makes of some rows: `latents` [n_rows, n_latents], above 0 where one fires."""

    reconstruction: Tensor
    latents: Tensor


Measure = Callable[[Float[Tensor, "n d_model"]], Fit]
"""What a trained SAE makes of rows."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to train one kind.

    Attributes:
        name: who, as the report says it.
        kind: the kind of SAE, by hsae's name.
        run: train, and call a function after every step; an error that it raises ends the training. None is returned
            for what has nothing to measure.
    """

    name: str
    kind: str
    run: Callable[[Setting, Callable[[], None]], Measure | None]

    @property
    def title(self) -> str:
        """As the report calls it."""
        return f"{self.kind}, {self.name}"


class Stepping(Protocol):
    """A training that is driven step by step."""

    def step(self) -> None:
        """Take one step on the next batch."""


class Measurable(Stepping, Protocol):
    """One whose result can be used."""

    def fit(self, x: Float[Tensor, "n d_model"]) -> Fit:
        """Encode and decode rows after the last step."""


def all_steps(training: Stepping, setting: Setting, after_step: Callable[[], None]) -> None:
    """Take the steps of a setting."""
    for _ in range(setting.n_steps):
        training.step()
        after_step()


def measured(training: Measurable, setting: Setting, after_step: Callable[[], None]) -> Measure:
    """Take the steps of a setting, then measure."""
    all_steps(training, setting, after_step)
    return training.fit


class Batches:
    """The rows of step after step."""

    def __init__(self, setting: Setting, scale: float = 1.0) -> None:
        self._rows = setting.rows
        self._order = setting.order()
        self._scale = scale
        self.step = -1

    def next(self) -> Float[Tensor, "batch d_model"]:
        """The next batch, scaled."""
        self.step += 1
        batch = self._rows[self._order.batch(self.step)]
        return batch if self._scale == 1.0 else batch * self._scale


def clip_and_step(parameters: list[Tensor], optimiser: torch.optim.Optimizer) -> None:
    """What a plain step does with its gradients."""
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
