"""The choices of interventions, by name. A request names them without loading what computes them."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hsae.frozen_model import FrozenModel
from hsae.vocabulary.readouts import READOUTS, ReadoutName

EditKind = Literal["scale", "clamp", "add"]
"""How the latents change; `hsae.interventions.edits` says what each is."""
Choice = Literal["label", "selectivity", "attribution", "given"]
"""How the latents of a node are chosen; `hsae.interventions.choice` says what each is."""
Place = Literal["own", "cls", "patches", "all"]
"""Which tokens are edited; `own`: those that the SAE was trained on."""
Control = Literal["random", "neurons", "probe", "class_mean", "leace"]
CONTROLS: tuple[Control, ...] = get_args(Control)
Unit = Literal["latents", "neurons", "random"]
"""What is driven one by one to see whether it steers: latents, raw neurons, random directions."""
UNITS: tuple[Unit, ...] = get_args(Unit)
LATENTS = "latents"
"""The arm that the controls are compared with."""
Layers = Literal["each", "together"]
"""Whether each layer of a study is edited by a job of its own, or all of them are edited in one pass."""
Start = Literal["auto", "stored", "images"]
"""Where the pass begins: at the stored activations of the layer, or at the images."""

MAX_NODES = 200
MAX_DOSES = 20
MAX_UNITS = 1_000
"""The most latents of a job that are taken away, or driven, one by one."""
MAX_EDITS = 5_000
"""Each has a pass over all scored images, and a row for every node and readout."""

NEEDED = ("nodes", "label_effects", "steer", "loss_recovered")
"""Settings of which one must be given for a job to have anything to do."""
_LATER = frozenset(
    {"label_effects", "steer", "steer_images", "steer_quantile", "steer_amounts", "loss_recovered", "layers"}
)


class InterveneSettings(FrozenModel):
    """Which nodes are edited, how, and what is read afterwards; latents one by one. Without any of NEEDED: no job."""

    nodes: tuple[str, ...] = Field(
        default=(), max_length=MAX_NODES, description="nodes to act on, such as bird.n.01 or n01503061"
    )
    choose: Choice = Field(default="label", description="how the latents of a node are chosen")
    latents: tuple[int, ...] = Field(default=(), description="with `choose: given`, the latents")
    n_latents: int = Field(default=16, ge=1, le=10_000, description="at most so many latents per node")
    max_density: float = Field(
        default=0.25, gt=0, le=1, description="latents that fire on a larger share of the images outside are not chosen"
    )
    edit: EditKind = Field(default="scale", description=", ".join(get_args(EditKind)))
    doses: tuple[float, ...] = Field(
        default=(0.0,), min_length=1, max_length=MAX_DOSES,
        description="factors of the latents; of clamp and add: of the quantile, or of the mean when they fire",
    )  # fmt: skip
    quantile: float | None = Field(
        default=None, ge=0, le=1, description="clamp to doses x this quantile of the activations; none: to the doses"
    )
    tokens: Place | tuple[int, ...] = Field(
        default="own", description=f"{', '.join(get_args(Place))}, or numbers of tokens"
    )
    readouts: tuple[ReadoutName, ...] = Field(default=("probe", "knn"), min_length=1, description=", ".join(READOUTS))
    controls: tuple[Control, ...] = Field(
        default=CONTROLS,
        validate_default=True,
        description=f"{', '.join(CONTROLS)}; of clamp and add random alone",
    )
    n_random: int = Field(default=4, ge=1, le=100, description="draws of random latents")
    n_train: int = Field(default=10_000, ge=2, description="at most so many images train the readouts")
    n_images: int = Field(default=2_000, ge=1, description="at most so many images are scored")
    n_shuffles: int = Field(default=999, ge=1, le=100_000, description="shuffled trees and flipped signs")
    n_neighbours: int = Field(default=20, ge=1, description="neighbours that vote")
    batch_size: int = Field(default=32, ge=1, le=4096, description="images per forward pass")
    start: Start = Field(default="auto", description="stored, images, or auto: stored where all tokens are kept")
    seed: int = Field(default=0, ge=0, description="seed of the random latents, the shuffles and the choice of images")
    label_effects: int = Field(
        default=0, ge=0, le=MAX_UNITS,
        description="so many latents, the surest labels first, are taken away one by one; 0: none",
    )  # fmt: skip
    steer: int = Field(
        default=0, ge=0, le=MAX_UNITS, description="so many latents, neurons and random directions are driven; 0: none"
    )
    steer_images: int = Field(default=256, ge=1, description="at most so many scored images see what is driven")
    steer_quantile: float = Field(
        default=0.99, gt=0, le=1, description="each is driven to this quantile of its own values, its natural range"
    )
    steer_amounts: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.05, 0.1, 0.2, 0.5), min_length=1, max_length=MAX_DOSES,
        description="how far the readout's mean distribution must move, in total variation",
    )  # fmt: skip

    loss_recovered: bool = Field(
        default=False, description="measure what passing through the SAE costs, also where nothing else is asked for"
    )
    layers: Layers = Field(
        default="each", description="each layer of the study by a job of its own, or all of them together in one pass"
    )

    @field_validator("readouts")
    @classmethod
    def _readouts_in_one_order(cls, names: tuple[ReadoutName, ...]) -> tuple[ReadoutName, ...]:
        """The same readouts have the same key, however they are listed."""
        return tuple(name for name in READOUTS if name in names)

    @field_validator("controls")
    @classmethod
    def _controls_that_are_made(cls, names: tuple[Control, ...], info: ValidationInfo) -> tuple[Control, ...]:
        """In one order; directions and neurons have no activations that could be clamped or added to."""
        possible = CONTROLS if info.data.get("edit", "scale") == "scale" else ("random",)
        return tuple(name for name in CONTROLS if name in names and name in possible)

    @field_validator("doses", "steer_amounts")
    @classmethod
    def _numbers_once(cls, numbers: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(dict.fromkeys(numbers))

    @model_validator(mode="after")
    def _fits_together(self) -> "InterveneSettings":
        if (self.choose == "given") != bool(self.latents):
            raise ValueError("latents are listed with `choose: given`, and only with it: give both, or neither")
        if self.quantile is not None and self.edit != "clamp":
            raise ValueError("a quantile is what latents are clamped to: leave it out, or set `edit: clamp`")
        unread = [name for name in ("steer", "loss_recovered") if getattr(self, name)]
        if unread and set(self.readouts) == {"knn"}:
            raise ValueError(f"{unread[0]} needs a readout with probabilities: add probe or classifier to readouts")
        if self.layers == "together" and self.choose == "given":
            raise ValueError(
                "the latents of `choose: given` are of one SAE, and `layers: together` edits several: choose by label,"
                " selectivity or attribution, or leave `layers: together` out"
            )
        single = [name for name in ("label_effects", "steer") if getattr(self, name)]
        if self.layers == "together" and single:
            raise ValueError(
                f"single latents ({', '.join(single)}) are those of one layer: leave them out, or `layers: together`"
            )
        negative = [latent for latent in self.latents if latent < 0]
        if negative:
            raise ValueError(f"there is no latent {negative[0]}: latents count from 0")
        return self

    def key_fields(self) -> dict[str, Any]:
        """The fields that a key is made of: those that came later are left out at their defaults.

        Whatever else is asked for measures the loss recovered, too, so that asking for both gives the same rows.
        """
        fields, defaults = self.model_dump(mode="json"), type(self)().model_dump(mode="json")
        if self.nodes or self.label_effects or self.steer:
            fields["loss_recovered"] = defaults["loss_recovered"]
        return {name: value for name, value in fields.items() if name not in _LATER or value != defaults[name]}

    @property
    def is_asked(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.nodes or self.label_effects or self.steer or self.loss_recovered)

    @property
    def n_edits(self) -> int:
        """How many edits there are: of every node, arm, draw and dose, and of latents one by one."""
        n_arms = 1 + sum(self.n_random if name == "random" else 1 for name in self.controls)
        n_alone = self.label_effects * (1 + self.n_random) + self.steer * len(UNITS)
        return len(self.nodes) * n_arms * len(self.doses) + n_alone
