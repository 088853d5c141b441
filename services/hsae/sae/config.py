"""What an SAE is trained with: one frozen, canonical, JSON-able model, and the rules that fill in its blanks."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import (
    Field,
    InstanceOf,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from hsae.devices.precision import Precision
from hsae.errors import UserError
from hsae.frozen_model import FrozenModel
from hsae.pydantic_errors import plain_line
from hsae.sae.origin import SaeOrigin
from hsae.sae.variants import DEFAULT_KIND, VARIANTS, own_settings
from hsae.sae.variants.variant import SaeVariant

Rows = Literal["memory", "stream"]
"""Whether a training holds all rows, or reads them while it trains."""
MAX_EXPANSION = 512
_LEFT_OUT = {"dead_latents", "rows", "window_shards", "precision", "part_rows"}


class SaeConfig(FrozenModel):
    """How one SAE is trained.

    It is made from `kind`, the settings of that kind and the fields below, all by name, and written like that:
    `SaeConfig(kind="topk", k=16, expansion=4)`. A setting of another kind must keep its default, so that one training
    has exactly one config and therefore one key.

    Raises:
        UserError: a setting is unknown, out of range or of another kind; one line (never pydantic's ValidationError).
    """

    variant: InstanceOf[SaeVariant] = Field(exclude=True, description="the kind with its own settings")
    expansion: int = Field(default=8, ge=1, le=MAX_EXPANSION, description="latents per dimension: n_latents / d_model")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="Adam's learning rate between warm-up and decay")
    lr_warmup_share: float = Field(default=0.05, ge=0, le=1, description="share of the steps of linear warm-up")
    lr_decay_share: float = Field(
        default=0.2, ge=0, le=1, description="share of the steps of linear decay to 0, at the end"
    )
    n_steps: int | None = Field(
        default=None, ge=1, le=10**9, description="optimiser steps; none: from the number of rows"
    )
    batch_size: int | None = Field(
        default=None, ge=1, le=10**7, description="rows a step; none: from the number of rows"
    )
    dead_latents: Literal["auxk", "resample"] = Field(
        default="auxk", description="how they return: by an auxiliary loss, or set anew four times (resample)"
    )
    aux_coefficient: float = Field(
        default=1 / 32, ge=0, description="weight of the auxiliary loss of dead latents; 0: off"
    )
    k_aux: int | None = Field(
        default=None, ge=1, description="dead latents that reconstruct the residual of a row; none: the initial L0"
    )
    dead_after_steps: int | None = Field(
        default=None, ge=1, description="a latent silent for so many steps counts as dead; none: from the schedule"
    )
    holdout_share: float = Field(
        default=0.1, ge=0, le=0.9, description="share of the images that only measure; 0: none"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of initialisation, hold-out and batch order")
    rows: Rows = Field(
        default="memory", description="memory: all rows are held; stream: windows of shards are read while it trains"
    )
    window_shards: int = Field(
        default=16, ge=1, le=10**6, description="shards whose rows are shuffled together where rows are streamed"
    )
    precision: Precision = Field(
        default="float32", description="of the training's matrix products; weights, sums and losses are float32"
    )
    part_rows: int | None = Field(
        default=None,
        ge=1,
        description="rows of a batch that go through the device at once; none: all. It decides the last bits",
    )
    imported: SaeOrigin | None = Field(
        default=None, description="where an SAE comes from that another program trained; none: it is trained here"
    )

    if TYPE_CHECKING:

        def __init__(self, **settings: Any) -> None:
            """The settings of the kinds are known at run time only."""

    @property
    def kind(self) -> str:
        """The name of the kind."""
        return self.variant.kind

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Every setting of every kind with its default; those that only some kinds have stand after `expansion`."""
        shared = cls._shared_defaults()
        own = {name: setting.default for name, setting in own_settings().items()}
        return {"kind": DEFAULT_KIND, "expansion": shared["expansion"]} | own | shared

    @classmethod
    def settings_of(cls, kind: str) -> set[str]:
        """The names of all settings that a kind has."""
        return {"kind", *VARIANTS[kind].settings(), *cls._shared_defaults()}

    @classmethod
    def _shared_defaults(cls) -> dict[str, Any]:
        """The settings that all kinds have."""
        no_settings = {"variant", "imported"}
        return {name: field.default for name, field in cls.model_fields.items() if name not in no_settings}

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Self:
        """The config of plain values (of a command line, a YAML file, JSON).

        Raises:
            UserError: as the constructor.
        """
        return cls.model_validate(dict(values))

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the settings of other kinds, so that a later change of their defaults changes no stored config.

        Settings that were added later are left out at their default, so that the keys of earlier configs stay.
        """
        shared: dict[str, Any] = handler(self)
        own = dict(self.variant.stated_settings())
        named = {"kind": self.kind, "expansion": shared["expansion"]}
        if self.imported is not None:
            # Nobody trains it here: of the settings those are left that say how it encodes.
            counts, defaults = self.variant.latent_counts(), type(self.variant)().stated_settings()
            told = {name: value for name, value in own.items() if name in counts or value != defaults.get(name)}
            return named | told | {"imported": shared["imported"]}
        shared.pop("imported", None)  # so that the keys of SAEs that are trained here stay
        stated = {
            name: value
            for name, value in shared.items()
            if name not in _LEFT_OUT or value != type(self).model_fields[name].default
        }
        return named | own | stated

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            config = handler(_with_variant(data) if isinstance(data, Mapping) else data)
        except ValidationError as error:
            bounded = {name: field.metadata for name, field in cls.model_fields.items()}
            raise UserError(plain_line(error, bounded, "the SAE config")) from error
        if config.lr_warmup_share + config.lr_decay_share > 1:
            raise UserError(
                f"lr_warmup_share {config.lr_warmup_share:g} and lr_decay_share {config.lr_decay_share:g} overlap: "
                "choose shares whose sum is at most 1"
            )
        if config.dead_latents == "resample":
            _check_resampling(config)
        if config.rows == "memory" and config.window_shards != cls.model_fields["window_shards"].default:
            raise UserError("window_shards applies to streamed rows only: leave it out or choose rows: stream")
        if config.precision != "float32" and not config.variant.narrow_products:
            raise UserError(f"a {config.kind} SAE needs float32 products: leave precision out or choose another kind")
        return config


def _check_resampling(config: SaeConfig) -> None:
    """Check what excludes resampling.

    Raises:
        UserError: the kind's directions are not free, or the auxiliary loss has settings.
    """
    if not config.variant.free_directions:
        free = ", ".join(kind for kind, variant in VARIANTS.items() if variant.free_directions)
        raise UserError(
            f"dead_latents: resample sets directions anew, which kind {config.kind} does not allow: leave it out or "
            f"choose kind {free}"
        )
    for name in ("aux_coefficient", "k_aux"):
        if getattr(config, name) != SaeConfig.model_fields[name].default:
            raise UserError(f"{name} belongs to the auxiliary loss: leave it out or choose dead_latents: auxk")


def _with_variant(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The values with the kind's name and its own settings replaced by a `variant`.

    Raises:
        UserError: a name or a kind is unknown, or a setting is out of range or of another kind.
    """
    known = SaeConfig.defaults()
    for name in values:
        if name not in known and name != "imported":
            raise UserError(f"{name} is no setting of an SAE: choose from {', '.join(known)}")
    kind = values.get("kind", DEFAULT_KIND)
    if not isinstance(kind, str) or kind not in VARIANTS:
        *first, last = map(repr, VARIANTS)
        listed = f"{', '.join(first)} or {last}" if first else last
        raise UserError(f"kind {kind!r} is not valid: input should be {listed}")
    settings = VARIANTS[kind].settings()
    own = {name: value for name, value in values.items() if name in settings}
    shared = {name: value for name, value in values.items() if name in SaeConfig.model_fields}
    contradiction = VARIANTS[kind].contradiction(own)
    if contradiction is not None:
        raise UserError(contradiction)
    try:
        variant = _adapter(VARIANTS[kind]).validate_python(own)
    except ValidationError as error:
        bounded = {name: setting.constraints for name, setting in settings.items()}
        raise UserError(plain_line(error, bounded, "the SAE config")) from error
    for name, value in values.items():
        if name not in {"kind", *own, *shared} and value != known[name]:
            raise UserError(foreign_setting(name, kind))
    return {"variant": variant, **shared}


def foreign_setting(name: str, kind: str) -> str:
    """What to say of a setting that a kind does not have and another one has."""
    kinds = " or ".join(other for other, variant in VARIANTS.items() if name in variant.settings())
    return f"{name} does not apply to a {kind} SAE: leave it out or choose kind {kinds}"


@cache
def _adapter(variant: type[SaeVariant]) -> TypeAdapter[SaeVariant]:
    return TypeAdapter(variant)


def n_latents_of(config: SaeConfig, d_model: int) -> int:
    """The dictionary's size: expansion times d_model; that of an imported SAE is its own."""
    return config.expansion * d_model if config.imported is None else config.imported.n_latents


def n_held_out(n_images: int, holdout_share: float) -> int:
    """How many images are held out: at least one, unless the share is 0."""
    return max(1, round(holdout_share * n_images)) if holdout_share > 0 else 0


def check_config(config: SaeConfig, d_model: int) -> None:
    """Check what depends on the backbone's width.

    Raises:
        UserError: a setting counts more latents than the dictionary has, or an imported SAE is for another width.
    """
    n_latents, origin = n_latents_of(config, d_model), config.imported
    if origin is not None and origin.d_model != d_model:
        raise UserError(
            f"the imported SAE {origin.name} takes activations of {origin.d_model} dimensions, and these have"
            f" {d_model}: give the model that it was trained on"
        )
    for name, value in {**config.variant.latent_counts(), "k_aux": config.k_aux or 0}.items():
        if value > n_latents:
            of = f"expansion {config.expansion} at d_model {d_model}" if origin is None else f"the SAE {origin.name}"
            raise UserError(
                f"{name}={value} is larger than the {n_latents} latents of {of}: choose {name} in 1..{n_latents}"
            )


def initial_l0(config: SaeConfig, d_model: int) -> int:
    """How many latents fire on a training row before the first step."""
    return config.variant.initial_l0(n_latents_of(config, d_model))


def resolve_k_aux(config: SaeConfig, d_model: int) -> int:
    """How many dead latents reconstruct the residual of a row: the config's number, else `initial_l0`."""
    return initial_l0(config, d_model) if config.k_aux is None else config.k_aux
