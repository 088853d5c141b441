"""How images become stored activations."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from hsae.backbones.architectures import is_traceable
from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.spec import Tokens
from hsae.devices.bfloat16 import processor_has_bfloat16
from hsae.devices.precision import Precision
from hsae.frozen_model import FrozenModel

StoredDtype = Literal["float32", "bfloat16"]
Decode = Literal["exact", "scaled"]
"""Whether a JPEG much larger than the model needs is decoded in full, or at a smaller scale."""
ComputeDtype = Literal["auto", "float32", "tf32", "bfloat16"]
"""What a user may ask for: a precision, or auto; see `chosen_precision`."""
DropAfter = Literal["analyze"]
"""When activations are deleted: once the analyses, and all other jobs that read them, have succeeded."""
PATCH_SHARD_IMAGES = 64
"""Images per shard by default where all patches are stored: an image has hundreds, and a shard keeps its size."""
# Added later, and therefore left out at their default: the keys of earlier activations stay.
_LEFT_OUT = ("precision", "part_images", "hook", "patches_per_image", "decode")


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
        default=1024, ge=1, le=10**6, description="images per shard; an interrupted extraction redoes at most two"
    )
    batch_size: int = Field(default=32, ge=1, le=10**5, description="images per forward pass")
    max_image_pixels: int = Field(
        default=178_956_970, gt=0, description="larger images are skipped (decompression bombs)"
    )
    seed: int = Field(default=0, ge=0, description="seed of the augmented views and of drawn patches")
    precision: Precision = Field(
        default="float32", description="of the backbone's matrix products and convolutions; its sums are float32"
    )
    part_images: int | None = Field(
        default=None,
        ge=1,
        le=10**5,
        description="images of a batch that go through the backbone at once; none: all. It decides the last bits",
    )
    hook: str = Field(
        default=RESIDUAL,
        min_length=1,
        description="hook point: residual, attention, mlp, embedding, or the path of a module",
    )
    patches_per_image: int = Field(
        default=0, ge=0, description="with tokens patches, how many are drawn of every view by the seed; 0: all"
    )

    decode: Decode = Field(
        default="exact",
        description="exact, or scaled: large JPEGs are decoded at 1/2, 1/4 or 1/8, and their pixels differ a little",
    )

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        defaults = {name: type(self).model_fields[name].default for name in _LEFT_OUT}
        return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}

    @property
    def images_at_once(self) -> int:
        """How many images go through the backbone at once, at most."""
        return min(self.part_images or self.batch_size, self.batch_size)

    def part_of(self, batch_size: int) -> int:
        """How many images of a later stage's batch go through the backbone at once, at most: no more than here."""
        return min(batch_size, self.part_images or batch_size)

    def pass_fields(self, batch_size: int) -> dict[str, Any]:
        """What a later stage's pass has of the extraction, and what decides its digits; nothing at the defaults.

        Args:
            batch_size: images of that stage's batch.
        """
        fields: dict[str, Any] = {}
        if self.precision != "float32":
            fields["precision"] = self.precision
        if self.part_of(batch_size) != batch_size:
            fields["part_images"] = self.part_of(batch_size)
        if self.decode != "exact":
            fields["decode"] = self.decode
        return fields

    @property
    def is_of_stream(self) -> bool:
        """Whether these are class or patch tokens of the residual stream."""
        return self.hook == RESIDUAL and self.tokens != "registers"

    def passes_on_stream(self, model_type: str) -> bool:
        """Whether the later blocks of a model of this type can be run again from these activations."""
        return self.is_of_stream and is_traceable(model_type)

    @property
    def draws(self) -> bool:
        """Whether anything is drawn at random, so that the seed counts."""
        return self.n_views > 1 or self.patches_per_image > 0


def chosen_precision(asked: ComputeDtype, stored: StoredDtype) -> Precision:
    """The precision that a user asked for, which is part of the key.

    `auto` is bfloat16 where that is stored, or where the processor of the machine that asks has instructions for it;
    else float32.
    """
    if asked != "auto":
        return asked
    return "bfloat16" if stored == "bfloat16" or processor_has_bfloat16() else "float32"


def complete_extraction(given: Mapping[str, Any], *, max_image_pixels: int) -> ExtractionConfig:
    """The extraction of the settings that a user gave; the others have defaults that suit them.

    Args:
        given: values by name.
        max_image_pixels: what a worker's settings allow, for who gave none.

    Raises:
        pydantic.ValidationError: for values that cannot be.
    """
    all_patches = given.get("tokens") == "patches" and not given.get("patches_per_image")
    shard_images = PATCH_SHARD_IMAGES if all_patches else ExtractionConfig.model_fields["shard_images"].default
    return ExtractionConfig(**{"shard_images": shard_images, "max_image_pixels": max_image_pixels, **given})
