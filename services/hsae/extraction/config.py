"""How images become stored activations."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.spec import Tokens
from hsae.frozen_model import FrozenModel
from hsae.settings import Settings

StoredDtype = Literal["float32", "bfloat16"]


class ExtractionConfig(FrozenModel):
    """How images become stored activations; every field changes the stored bytes."""

    tokens: Tokens = Field(
        default="cls", description="class token, register tokens, patch tokens, or the mean of the patch tokens"
    )
    dtype: StoredDtype = Field(default="float32", description="stored type of the activations")
    n_views: int = Field(
        default=1, ge=1, le=64, description="1 + augmented views per image, used as training rows only"
    )
    shard_images: int = Field(
        default=1024, ge=1, le=10**6, description="images per shard; an interrupted extraction redoes at most one"
    )
    batch_size: int = Field(default=32, ge=1, le=10**5, description="images per forward pass")
    max_image_pixels: int = Field(
        default=178_956_970, gt=0, description="larger images are skipped (decompression bombs)"
    )
    seed: int = Field(default=0, ge=0, description="seed of the augmented views and of drawn patches")
    hook: str = Field(
        default=RESIDUAL,
        min_length=1,
        description="hook point: residual, attention, mlp, embedding, or the path of a module",
    )
    patches_per_image: int = Field(
        default=0, ge=0, description="with tokens patches, how many are drawn of every view by the seed; 0: all"
    )

    @model_serializer(mode="wrap")
    def _what_counts(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # At their defaults they are left out, so that keys of versions without them stay.
        later = {"hook": RESIDUAL, "patches_per_image": 0}
        return {name: value for name, value in serialise(self).items() if name not in later or value != later[name]}

    @property
    def draws(self) -> bool:
        """Whether anything is drawn at random, so that the seed counts."""
        return self.n_views > 1 or self.patches_per_image > 0


def complete_extraction(given: Mapping[str, Any], settings: Settings) -> ExtractionConfig:
    """The extraction of the settings that a user gave; the others have defaults that suit them.

    Raises:
        pydantic.ValidationError: for values that cannot be.
    """
    # An image has hundreds of patch tokens, so fewer images make a shard of the same size.
    all_patches = given.get("tokens") == "patches" and not given.get("patches_per_image")
    shard_images = 64 if all_patches else ExtractionConfig.model_fields["shard_images"].default
    return ExtractionConfig(**{"shard_images": shard_images, "max_image_pixels": settings.max_image_pixels, **given})
