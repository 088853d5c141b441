"""ReLU with an L1 penalty: a latent fires where its pre-activation is positive."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Le

from hsae.sae.variants.variant import FigureStyle, SaeVariant, Setting, StepDone

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from hsae.sae.kernels.entries import Entries
    from hsae.sae.weights import SaeWeights

# The controller of `target_l0`. Ours; docs/sae.md describes it.
_STEPS_BETWEEN = 10
_PROPORTIONAL = 1.0
_INTEGRAL = 0.4
_LARGEST_ERROR = math.log(2)
_LEAST_COEFFICIENT, _GREATEST_COEFFICIENT = 1e-6, 1e3
L0_TOLERANCE = 0.1
"""By which share of the target a trained SAE's L0 may differ from it."""


@dataclass(frozen=True)
class Relu(SaeVariant):
    """`z = relu(pre)`; the loss adds `l1_weight * sum_j z_j / sqrt(d_model)`.

    With `target_l0` the coefficient of the penalty is part of the state (`l1_coefficient`, a tensor) and changes during
    the training. `last_l0` is the L0 that it was last set by.
    """

    kind = "relu"
    title = "ReLU SAE"
    style = FigureStyle(colour="#0072B2", marker="o", control_width=1.0)
    export_code = "return pre.relu()"

    l1_coefficient: Annotated[
        float,
        Ge(0),
        Setting("weight of the L1 penalty (no unit)", option="--l1", help="L1 coefficient of a ReLU SAE."),
    ] = 0.3
    l1_warmup_share: Annotated[
        float, Ge(0), Le(1), Setting("share of the steps over which the L1 penalty rises from 0")
    ] = 0.1
    target_l0: Annotated[
        float | None,
        Gt(0),
        Setting(
            "held-out L0 to which the L1 coefficient adapts; none: it stays l1_coefficient",
            option="--target-l0",
            help="Held-out L0 that a ReLU SAE's L1 coefficient adapts to; instead of --l1.",
        ),
    ] = None

    @classmethod
    def contradiction(cls, given: Collection[str]) -> str | None:
        """A coefficient that adapts cannot be given."""
        if {"l1_coefficient", "target_l0"} <= set(given):
            return "l1_coefficient and target_l0 cannot be given together: the coefficient adapts to target_l0"
        return None

    def stated_settings(self) -> Mapping[str, Any]:
        """Either the coefficient or the target."""
        left_out = "target_l0" if self.target_l0 is None else "l1_coefficient"
        return {name: value for name, value in super().stated_settings().items() if name != left_out}

    def latent_counts(self) -> Mapping[str, int]:
        """A row cannot fire more latents than there are."""
        return {} if self.target_l0 is None else {"target_l0": math.ceil(self.target_l0)}

    def initial_l0(self, n_latents: int) -> int:
        """The target, if there is one; else as most kinds."""
        if self.target_l0 is None:
            return super().initial_l0(n_latents)
        return min(max(1, round(self.target_l0)), n_latents)

    def own_buffers(self, n_latents: int, d_model: int) -> Mapping[str, tuple[int, ...]]:
        """With a target, the coefficient and what it was last set by."""
        return {} if self.target_l0 is None else {"l1_coefficient": (), "last_l0": ()}

    def initialise(self, sae: SaeWeights) -> None:
        """Start with the default coefficient, as if the target were met."""
        if self.target_l0 is not None:
            sae.get_buffer("l1_coefficient").fill_(self.l1_coefficient)
            sae.get_buffer("last_l0").fill_(self.target_l0)

    def l1_weight(self, sae: SaeWeights, step: int, n_steps: int) -> float:
        """A linear rise from near 0 over the warm-up share, then the coefficient."""
        coefficient = self.l1_coefficient if self.target_l0 is None else float(sae.get_buffer("l1_coefficient"))
        return coefficient * self._rise(step, n_steps)

    def after_step(self, sae: SaeWeights, done: StepDone) -> None:
        """Every 10 steps after the warm-up: a proportional-integral controller of the logarithm of the coefficient.

        With `e = log(L0 / target)`, limited to a factor of 2:
        `log(coefficient) += (e - e_before) + 0.4 * rate_share * e`.
        """
        super().after_step(sae, done)
        if self.target_l0 is None or self._rise(done.step, done.n_steps) < 1 or (done.step + 1) % _STEPS_BETWEEN:
            return
        coefficient, last_l0 = sae.get_buffer("l1_coefficient"), sae.get_buffer("last_l0")
        l0 = done.l0()
        error = self._error(l0)
        change = _PROPORTIONAL * (error - self._error(float(last_l0))) + _INTEGRAL * done.rate_share * error
        changed = float(coefficient) * math.exp(change)
        coefficient.fill_(min(max(changed, _LEAST_COEFFICIENT), _GREATEST_COEFFICIENT))
        last_l0.fill_(l0)

    def own_metrics(self, sae: SaeWeights, l0: float) -> Mapping[str, float | bool]:
        """With a target: the last coefficient, and whether the L0 is within a tenth of the target."""
        if self.target_l0 is None:
            return {}
        return {
            "l1_coefficient": float(sae.get_buffer("l1_coefficient")),
            "target_l0": self.target_l0,
            "reached_target_l0": abs(l0 / self.target_l0 - 1) <= L0_TOLERANCE,
        }

    def firing(self, pre: Float[Tensor, "batch n_latents"]) -> Entries:
        """Where the pre-activations are positive."""
        from hsae.sae.kernels.entries import positive_entries

        return positive_entries(pre)

    def encode(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """The positive part of the pre-activations."""
        return sae.pre_activations(x_scaled).relu()

    def _rise(self, step: int, n_steps: int) -> float:
        return min(1.0, (step + 1) / (self.l1_warmup_share * n_steps)) if self.l1_warmup_share > 0 else 1.0

    def _error(self, l0: float) -> float:
        """The logarithm of L0 over the target, limited to that of 2."""
        assert self.target_l0 is not None  # noqa: S101
        error = math.log(max(l0, 1e-3) / self.target_l0)
        return min(max(error, -_LARGEST_ERROR), _LARGEST_ERROR)
