"""The choices of names by text. A request has them without loading what computes them."""

from typing import Any, Literal

from pydantic import Field, field_validator

from hsae.frozen_model import FrozenModel

NameMethod = Literal["direction", "effect", "images"]
"""What of a latent is compared with words; `hsae.text.names` says what each is."""
WORDNET = "wordnet"
"""The vocabulary of the taxonomy's own nodes."""
TEMPLATES = ("{}", "a photo of a {}", "a picture of a {}", "a drawing of a {}", "{}: {gloss}")
MAX_WORDS = 50_000
"""Words of a file; each is embedded once per template, and stands in the request of every SAE."""


class NameSettings(FrozenModel):
    """By which model latents are named, with which words, and how."""

    by: str = Field(default="", description="CLIP or SigLIP model: hub id or folder; empty: no names")
    vocabulary: str = Field(
        default=WORDNET, min_length=1, description="wordnet (the taxonomy's nodes), or a text file with a word a line"
    )
    templates: tuple[str, ...] = Field(
        default=TEMPLATES,
        min_length=1,
        description="texts with {} for the word and, if wanted, {gloss} for its definition",
    )
    latents: int = Field(
        default=1000, ge=1, le=100_000, description="at most so many latents by effect or images, surest labels first"
    )
    images: int = Field(default=8, ge=1, le=1000, description="strongest images of each latent")
    n_mean: int = Field(default=10_000, ge=1, description="at most so many images in the mean of all images")
    n_shuffles: int = Field(default=999, ge=1, le=100_000, description="shuffled vocabularies")
    batch_size: int = Field(default=32, ge=1, le=4096, description="images per forward pass")
    seed: int = Field(default=0, ge=0, description="seed of the shuffles and of the choice of images")
    revision: str = Field(default="", description="commit or checksum of the model; a submit finds it")
    tokenizer: str = Field(default="", description="checksum of a folder's tokenizer; a submit finds it")
    words: tuple[str, ...] = Field(
        default=(), max_length=MAX_WORDS, description="the words of the file; a submit reads them"
    )

    @field_validator("templates")
    @classmethod
    def _have_a_place_for_the_word(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"the template {template!r} must have {{}} once, in the place of the word")
        if all("{gloss}" in template for template in templates):
            raise ValueError("every template has {gloss}, and words of a file have none: add one without it")
        return tuple(dict.fromkeys(templates))

    def key_fields(self) -> dict[str, Any]:
        """The fields that a key is made of: what differs from the defaults, and not where model and words lie."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"by", "vocabulary"})
