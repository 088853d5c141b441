"""The choices of relevancy maps, by name. A request names them without loading what computes them."""

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from hsae.frozen_model import FrozenModel

MapMethod = Literal["chefer", "gradcam", "attention", "gradient", "activation", "random"]
"""How a map is made; `hsae.relevancy.relevance` says what each is."""
MAP_METHODS: tuple[MapMethod, ...] = get_args(MapMethod)
"""In the order in which they are made, which is also that in a key."""
WITH_ATTENTION: tuple[MapMethod, ...] = ("chefer", "attention")
"""Those that need the attention weights."""
INSTEAD: MapMethod = "gradcam"
"""What is made in the place of `chefer` where a backbone gives no attention weights."""

EXPLAINING: tuple[MapMethod, ...] = ("chefer", INSTEAD)
"""Those that say where a latent comes from, the preferred one first; the others are controls."""

MAX_LATENTS = 10_000
MAX_IMAGES = 16
"""So many of a latent's strongest images are in the catalog."""


class MapSettings(FrozenModel):
    """Of which latents of an analysis maps are made, and how."""

    latents: int = Field(
        default=0,
        ge=0,
        le=MAX_LATENTS,
        description="maps of so many latents per analysis, the surest labels first; 0: none",
    )
    images: int = Field(default=8, ge=1, le=MAX_IMAGES, description="strongest images of each latent")
    methods: tuple[MapMethod, ...] = Field(
        default=("chefer",), min_length=1, description="chefer, gradcam, or a control"
    )
    batch_size: int = Field(
        default=16, ge=1, le=4096, description="images per forward and backward pass; at most part_images of extraction"
    )
    seed: int = Field(default=0, ge=0, description="seed of the control random")

    def key_fields(self) -> dict[str, Any]:
        """The fields that a key is made of."""
        return self.model_dump(mode="json")

    @field_validator("methods")
    @classmethod
    def _in_one_order(cls, methods: tuple[MapMethod, ...]) -> tuple[MapMethod, ...]:
        """The same methods have the same key, however they are listed."""
        return tuple(method for method in MAP_METHODS if method in methods)
