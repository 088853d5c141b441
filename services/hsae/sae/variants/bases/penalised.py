"""Kinds that a penalty makes sparse: its warm-up, and a coefficient that adapts to a target L0."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from annotated_types import Gt

from hsae.sae.variants.variant import SaeVariant, Setting, StepDone

if TYPE_CHECKING:
    from torch import Tensor

    from hsae.sae.weights import SaeWeights

# The controller of `target_l0`. Ours; docs/sae.md describes it.
_STEPS_BETWEEN = 10
_PROPORTIONAL = 1.0
_INTEGRAL = 0.4
_LARGEST_ERROR = math.log(2)
_LEAST_COEFFICIENT, _GREATEST_COEFFICIENT = 1e-6, 1e3
L0_TOLERANCE = 0.1
"""By which share of the target a trained SAE's L0 may differ from it."""

TargetL0 = Annotated[
    float | None,
    Gt(0),
    Setting(
        "held-out L0 to which the penalty's coefficient adapts; none: it stays as given",
        option="--target-l0",
        help="Held-out L0 that the penalty of a ReLU, JumpReLU or gated SAE adapts to; instead of its coefficient.",
    ),
]
"""The setting that these kinds have in common."""


class Penalty(NamedTuple):
    """The settings of a penalty.

    Attributes:
        coefficient: the coefficient, or what it starts from where it adapts.
        warmup_share: the share of the steps over which the penalty rises from 0.
        target_l0: the L0 to which the coefficient adapts; None: it stays.
    """

    coefficient: float
    warmup_share: float
    target_l0: float | None


@dataclass(frozen=True)
class Penalised(SaeVariant):
    """A kind whose loss has a penalty of a coefficient, or of a target L0.

    With a target the coefficient is part of the state (a tensor of its setting's name) and changes during the training.
    `last_l0` is the L0 that it was last set by.

    Attributes:
        coefficient_setting: the setting with the coefficient; also the tensor that holds it where it adapts.
    """

    coefficient_setting: ClassVar[str]

    @classmethod
    def contradiction(cls, given: Collection[str]) -> str | None:
        """A coefficient that adapts cannot be given."""
        name = cls.coefficient_setting
        if {name, "target_l0"} <= set(given):
            return f"{name} and target_l0 cannot be given together: the coefficient adapts to target_l0"
        return None

    @abstractmethod
    def sparsity_penalty(self) -> Penalty:
        """The settings of the penalty."""

    def stated_settings(self) -> Mapping[str, Any]:
        """Either the coefficient or the target."""
        penalty = self.sparsity_penalty()
        left_out = "target_l0" if penalty.target_l0 is None else self.coefficient_setting
        return {name: value for name, value in super().stated_settings().items() if name != left_out}

    def latent_counts(self) -> Mapping[str, int]:
        """A row cannot fire more latents than there are."""
        target = self.sparsity_penalty().target_l0
        return {} if target is None else {"target_l0": math.ceil(target)}

    def initial_l0(self, n_latents: int) -> int:
        """The target, if there is one; else as most kinds."""
        target = self.sparsity_penalty().target_l0
        return super().initial_l0(n_latents) if target is None else min(max(1, round(target)), n_latents)

    def own_buffers(self, n_latents: int, d_model: int) -> Mapping[str, tuple[int, ...]]:
        """With a target, the coefficient and what it was last set by."""
        penalty = self.sparsity_penalty()
        return {} if penalty.target_l0 is None else {self.coefficient_setting: (), "last_l0": ()}

    def initialise(self, sae: SaeWeights) -> None:
        """Start with the default coefficient, as if the target were met."""
        penalty = self.sparsity_penalty()
        if penalty.target_l0 is not None:
            sae.get_buffer(self.coefficient_setting).fill_(penalty.coefficient)
            sae.get_buffer("last_l0").fill_(penalty.target_l0)

    def penalty_weight(self, sae: SaeWeights, step: int, n_steps: int) -> float | Tensor:
        """The weight of the penalty at a step: a linear rise from near 0 over the warm-up, then the coefficient.

        With a target it is float32[] on the device: in no step must the host know it.
        """
        penalty = self.sparsity_penalty()
        rise = _rise(penalty, step, n_steps)
        if penalty.target_l0 is None:
            return penalty.coefficient * rise
        # Rounded once, after the product.
        return (sae.get_buffer(self.coefficient_setting).double() * rise).float()

    def after_step(self, sae: SaeWeights, done: StepDone) -> None:
        """Every 10 steps after the warm-up: a proportional-integral controller of the logarithm of the coefficient.

        With `e = log(L0 / target)`, limited to a factor of 2:
        `log(coefficient) += (e - e_before) + 0.4 * rate_share * e`. In float64, where the SAE is: nobody waits for it.
        """
        super().after_step(sae, done)
        penalty = self.sparsity_penalty()
        target = penalty.target_l0
        if target is None or _rise(penalty, done.step, done.n_steps) < 1 or (done.step + 1) % _STEPS_BETWEEN:
            return
        coefficient, last_l0 = sae.get_buffer(self.coefficient_setting), sae.get_buffer("last_l0")
        l0 = done.l0()
        error = _error(l0, target)
        change = _PROPORTIONAL * (error - _error(last_l0.double(), target)) + _INTEGRAL * done.rate_share * error
        changed = coefficient.double() * _exp(change)
        coefficient.copy_(changed.clamp(_LEAST_COEFFICIENT, _GREATEST_COEFFICIENT))
        last_l0.copy_(l0)

    def own_metrics(self, sae: SaeWeights, l0: float) -> Mapping[str, float | bool]:
        """With a target: the last coefficient, and whether the L0 is within a tenth of the target."""
        penalty = self.sparsity_penalty()
        if penalty.target_l0 is None:
            return {}
        return {
            self.coefficient_setting: float(sae.get_buffer(self.coefficient_setting)),
            "target_l0": penalty.target_l0,
            "reached_target_l0": abs(l0 / penalty.target_l0 - 1) <= L0_TOLERANCE,
        }


def _rise(penalty: Penalty, step: int, n_steps: int) -> float:
    return min(1.0, (step + 1) / (penalty.warmup_share * n_steps)) if penalty.warmup_share > 0 else 1.0


def _error(l0: Tensor, target: float) -> Tensor:
    """The logarithm of L0 over the target, limited to that of 2."""
    l0 = l0.clamp_min(1e-3)
    # By a tensor: CUDA would multiply by the reciprocal of a number.
    return _log(l0 / l0.new_full((), target)).clamp(-_LARGEST_ERROR, _LARGEST_ERROR)


# On the CPU those of Python: torch's may differ in the last bit, and trainings must end with the bits of earlier ones.
def _log(x: Tensor) -> Tensor:
    return x.new_full((), math.log(float(x))) if x.device.type == "cpu" else x.log()


def _exp(x: Tensor) -> Tensor:
    return x.new_full((), math.exp(float(x))) if x.device.type == "cpu" else x.exp()
