"""What a kind of SAE says of itself, with the rules that most kinds share.

Nothing here and in the files of the kinds imports torch or pydantic at import: the command line reads its options here.
"""

from __future__ import annotations

import types
import typing
from abc import ABC
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from hsae.sae.kernels.entries import Entries
    from hsae.sae.losses import StepLosses, TrainingStep
    from hsae.sae.weights import SaeWeights

_INITIAL_L0 = 32


class FigureStyle(NamedTuple):
    """How a kind is drawn.

    Attributes:
        colour: Matplotlib's name of a colour.
        marker: Matplotlib's name of a marker.
        control_width: line width of the kind's controls, in points.
    """

    colour: str
    marker: str
    control_width: float


@dataclass(frozen=True, slots=True)
class Setting:
    """What stands beside a setting's type: `k: Annotated[int, Ge(1), Setting("how many latents fire")] = 32`.

    Attributes:
        description: what the setting means.
        option: the option of `submit` that sets it, such as "--k"; empty: none does.
        help: the help of that option; empty: the description.
    """

    description: str
    option: str = ""
    help: str = ""


@dataclass(frozen=True, slots=True)
class OwnSetting:
    """A setting that one kind has, as its class declares it.

    Attributes:
        name: the field's name.
        type: int, float or str, without the None that the field may also allow.
        default: its value where none is given.
        constraints: bounds, as objects of `annotated_types`.
        about: description, option and help.
        choices: the allowed words of a `Literal`; empty: any value within the bounds.
    """

    name: str
    type: type
    default: Any
    constraints: tuple[Any, ...]
    about: Setting
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepDone:
    """What a kind may know after the optimiser's step.

    Attributes:
        step: number of the step, from 0.
        n_steps: steps of the whole training.
        rate_share: the step's learning rate over the greatest one.
        l0: measures the mean number of positive latents, float64[] on the device, on rows that stay the same throughout
            the training: at most 1,024 held-out rows of view 0, or training rows where nothing is held out.
        notes: the `StepLosses.note` of every part of the batch; empty for kinds that note nothing.
    """

    step: int
    n_steps: int
    rate_share: float
    l0: Callable[[], Tensor]
    notes: Sequence[Tensor] = ()


@dataclass(frozen=True)
class SaeVariant(ABC):
    """One kind of SAE with its own settings.

    A kind is a frozen dataclass. Its fields are the settings that other kinds do not have; each has a default, and a
    `Setting` in its annotation. Settings that all kinds have are those of `hsae.sae.config.SaeConfig`.

    Attributes:
        kind: the name by which commands, study files and the database call it.
        title: what figures call it.
        style: how figures draw it.
        export_code: Python lines that end a function and return latents; given `x`, raw activations [n, d_model],
            `pre`, the pre-activations as float32[n, n_latents], `sae`, the stored tensors by name, and `config`, the
            stored settings.
        free_directions: whether a direction may be set to any other one, as resampling does.
        narrow_products: whether its losses suit matrix products in bfloat16.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    style: ClassVar[FigureStyle]
    export_code: ClassVar[str]
    free_directions: ClassVar[bool] = True
    narrow_products: ClassVar[bool] = True
    # A list of numbers is a text; YAML reads a list of one as a number.
    __pydantic_config__: ClassVar[dict[str, bool]] = {"allow_inf_nan": False, "coerce_numbers_to_str": True}

    def __init_subclass__(cls) -> None:
        """Raise TypeError where a kind says in no way which latents fire."""
        own_way = cls.encode is not SaeVariant.encode and cls.losses is not SaeVariant.losses
        if hasattr(cls, "kind") and cls.firing is SaeVariant.firing and not own_way:
            raise TypeError(f"{cls.__name__} must define firing, or both encode and losses")

    @classmethod
    def settings(cls) -> Mapping[str, OwnSetting]:
        """The kind's own settings by name, in the order of its fields."""
        return _settings_of(cls)

    @classmethod
    def contradiction(cls, given: Collection[str]) -> str | None:
        """Why settings of these names cannot be given together, in one line; None: they can."""
        return None

    def stated_settings(self) -> Mapping[str, Any]:
        """The settings as a written config has them, in the order of the fields.

        A setting that was added later is left out at the value that means what was before, so that the keys of earlier
        configs stay.
        """
        return {name: getattr(self, name) for name in self.settings()}

    def latent_counts(self) -> Mapping[str, int]:
        """The settings that count latents, none of which may be larger than the dictionary."""
        return {}

    def initial_l0(self, n_latents: int) -> int:
        """How many latents fire on a row before the first step: 32, but at most half of them."""
        return min(_INITIAL_L0, max(1, n_latents // 2))

    def l1_weight(self, sae: SaeWeights, step: int, n_steps: int) -> float | Tensor:
        """The weight of the L1 penalty at a step (counted from 0); a tensor where it is part of the state."""
        return 0.0

    def own_parameters(self, n_latents: int, d_model: int) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of the trained tensors (float32) that the other kinds do not have."""
        return {}

    def own_buffers(self, n_latents: int, d_model: int) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of the tensors (float32) without a gradient; they belong to the state and are stored."""
        return {}

    def initialise(self, sae: SaeWeights) -> None:  # noqa: B027 -- most kinds have no tensors of their own
        """Set the own tensors of an SAE whose other weights have their first values. They are zeros before."""

    def fit(self, sae: SaeWeights, centred: Float[Tensor, "n_rows d_model"], seed: int) -> None:  # noqa: B027
        """Fit the first directions to training rows. Most kinds have no need: theirs are random.

        It comes before the encoder is made from the directions, and before `initialise`.

        Args:
            sae: zeros, but for `input_scale`, `pre_bias` and the random directions `decoder_weight`.
            centred: up to 8,192 training rows in scaled space, without `pre_bias`.
            seed: seed of the training.
        """

    def before_step(self, sae: SaeWeights) -> None:
        """Change the gradients of a step, before they are clipped: the decoder's lose the part along each direction.

        The renormalisation would undo that part, but Adam's moments would remember it.
        """
        gradient, directions = sae.decoder_weight.grad, sae.decoder_weight
        assert gradient is not None  # noqa: S101
        gradient.addcmul_((gradient * directions).sum(dim=1, keepdim=True), directions, value=-1)

    def after_step(self, sae: SaeWeights, done: StepDone) -> None:
        """Change the weights after the optimiser's step: directions get unit norm."""
        sae.decoder_weight.div_(sae.decoder_weight.norm(dim=1, keepdim=True))

    def resampled(self, sae: SaeWeights, latents: Int[Tensor, "n"]) -> None:  # noqa: B027
        """Set the own tensors of latents whose encoder, bias (0) and direction were set anew."""

    def own_metrics(self, sae: SaeWeights, l0: float) -> Mapping[str, float | bool]:
        """What a trained SAE of this kind has to say besides the metrics of all kinds.

        Args:
            sae: the weights.
            l0: mean number of positive latents on held-out rows, or on training rows where nothing is held out.
        """
        return {}

    def firing(self, pre: Float[Tensor, "batch n_latents"]) -> Entries:
        """Which latents fire, given their pre-activations; the value of each is its pre-activation.

        `encode` and `losses` need it here; a kind that has its own of both need not define it.
        """
        raise NotImplementedError(f"{self.kind} has no rule that knows the pre-activations alone: call encode")

    def encode(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """Latents z >= 0 of scaled activations."""
        pre = sae.pre_activations(x_scaled)
        entries = self.firing(pre)
        return entries.to_dense(pre[entries.rows, entries.latents])

    def decode(self, sae: SaeWeights, z: Float[Tensor, "batch n_latents"]) -> Float[Tensor, "batch d_model"]:
        """Scaled activations of latents."""
        return z @ sae.decoder_weight + sae.pre_bias

    def reconstruct(
        self,
        sae: SaeWeights,
        x_scaled: Float[Tensor, "batch d_model"],
        entries: Entries,
        z: Float[Tensor, "n_entries"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "batch d_model"]]:
        """The reconstruction loss of a batch, and its residual; see `hsae.sae.losses.whole_reconstruction`."""
        from hsae.sae.losses import whole_reconstruction

        return whole_reconstruction(sae, x_scaled, entries, z)

    def prepare_batch(self, sae: SaeWeights, parts: Sequence[Float[Tensor, "part d_model"]]) -> Sequence[Any]:
        """What the losses of each part of a batch must know of the others, in the order of the parts.

        It is called without gradients before the losses of a step, only where a batch is more than one part.

        Args:
            sae: the weights.
            parts: the rows of the parts in scaled space.
        """
        return [None] * len(parts)

    def losses(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"], at: TrainingStep) -> StepLosses:
        """The losses of one training step, with gradients; see `hsae.sae.losses`."""
        from hsae.sae.losses import sparse_losses

        return sparse_losses(
            sae,
            x_scaled,
            at,
            firing=self.firing,
            l1_weight=self.l1_weight(sae, at.step, at.n_steps),
            initial_l0=self.initial_l0(sae.n_latents),
            reconstruct=self.reconstruct,
        )


@cache
def _settings_of(variant: type[SaeVariant]) -> Mapping[str, OwnSetting]:
    hints = typing.get_type_hints(variant, include_extras=True)
    found = {}
    for field in fields(variant):
        annotated, *metadata = typing.get_args(hints[field.name])
        (about,) = [entry for entry in metadata if isinstance(entry, Setting)]
        found[field.name] = OwnSetting(
            name=field.name,
            type=_without_none(annotated),
            default=field.default,
            constraints=tuple(entry for entry in metadata if entry is not about),
            about=about,
            choices=_choices(annotated),
        )
    return types.MappingProxyType(found)


def _without_none(annotated: Any) -> type:
    if _choices(annotated):
        return str
    parts = [part for part in typing.get_args(annotated) if part is not types.NoneType]
    found: type = parts[0] if parts else annotated
    return found


def _choices(annotated: Any) -> tuple[str, ...]:
    return typing.get_args(annotated) if typing.get_origin(annotated) is typing.Literal else ()
