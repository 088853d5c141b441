"""What is asked for, and the content address of what it makes.

An artifact's key is a sha256 over everything that determines its content and nothing else: where a model or a data
set lies, or which other layers were asked for in the same breath, is no part of it, so that two requests which need the
same artifact share it.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from hsae.backbones.spec import BackboneSpec, Tokens
from hsae.hierarchy.config import CONTROL_BASES, AssociationRule, ControlBasis
from hsae.sae.config import SaeConfig
from hsae.settings import Settings

# Raised whenever the same request would give other bytes than before; docs/storage-format.md has the exceptions.
ANALYSIS_FORMAT = 3
_FORMATS = {"activations": 1, "sae": 1, "analysis": ANALYSIS_FORMAT, "comparison": 1}

StoredDtype = Literal["float32", "bfloat16"]


def _key(kind: str, content: dict[str, Any]) -> str:
    canonical = json.dumps(
        {"kind": kind, "format": _FORMATS[kind], **content},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def _as_text(value: object) -> object:
    """A number as its digits, since YAML reads them so."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DatasetRef(_Request):
    """A registered data set as a job sees it."""

    id: int
    name: str
    root: str
    fingerprint: str
    listing_sha256: str
    taxonomy_key: str


class ExtractionConfig(_Request):
    """How images become stored activations; every field changes the stored bytes."""

    tokens: Tokens = Field("cls", description="class token, patch tokens, or the mean of the patch tokens")
    dtype: StoredDtype = Field("float32", description="stored type of the activations")
    n_views: int = Field(1, ge=1, le=64, description="1 + augmented views per image, used as training rows only")
    shard_images: int = Field(
        1024, ge=1, le=10**6, description="images per shard; an interrupted extraction redoes at most one"
    )
    batch_size: int = Field(32, ge=1, le=10**5, description="images per forward pass")
    max_image_pixels: int = Field(178_956_970, gt=0, description="larger images are skipped (decompression bombs)")
    seed: int = Field(0, ge=0, description="seed of the augmented views")


class ScoringConfig(_Request):
    """How latents are scored against the taxonomy; every field changes the scores."""

    threshold: float = Field(0.0, ge=0, description="a latent fires where its activation exceeds this")
    association: AssociationRule = Field("topk", description="rule that associates classes with latents")
    seed: int = Field(
        0,
        ge=0,
        le=32_000,  # with the shuffles added it is a smallint of the catalog
        description="seed of the shuffles, the random directions and clusters, and the probes' split",
    )
    n_shuffles: int = Field(2, ge=0, le=100, description="shuffles of the labels, and as many of the taxonomy")
    controls: tuple[ControlBasis, ...] = Field(CONTROL_BASES, description="bases that are scored beside the SAE")
    embeddings: Annotated[str, BeforeValidator(_as_text)] = Field(
        "last",
        min_length=1,
        description="monosemanticity compares images by: the last layer's class token (last), the analysed layer (own)"
        " or an activation set (its number or key)",
    )

    @field_validator("controls")
    @classmethod
    def _in_one_order(cls, controls: tuple[ControlBasis, ...]) -> tuple[ControlBasis, ...]:
        """The same controls have the same key, however they are listed."""
        return tuple(control for control in CONTROL_BASES if control in controls)


class ComparisonConfig(_Request):
    """How the analyses of a study are compared; every field changes the intervals."""

    seed: int = Field(0, ge=0, description="seed of the resamples")
    n_resamples: int = Field(1000, ge=1, le=10**6, description="bootstrap resamples per interval")
    confidence: float = Field(0.95, gt=0, lt=1, description="share of repetitions whose interval holds the value")


class ExtractRequest(_Request):
    """One pass over a data set that fills the activation sets of one or several layers."""

    model: BackboneSpec
    dataset: DatasetRef
    layers: tuple[int, ...]
    extraction: ExtractionConfig

    def activation_key(self, layer: int) -> str:
        """Key of the activation set of one layer."""
        return _key(
            "activations",
            {
                "model_revision": self.model.revision,
                "preprocessing": self.model.preprocessing,
                "dataset": self.dataset.fingerprint,
                "layer": layer,
                **self.extraction.model_dump(),
            },
        )

    @property
    def key(self) -> str:
        """Key of the job: the set of what it makes."""
        joined = ",".join(self.activation_key(layer) for layer in self.layers)
        return hashlib.sha256(joined.encode()).hexdigest()


class TrainRequest(_Request):
    """One SAE on one activation set."""

    activation_key: str
    sae: SaeConfig

    @property
    def key(self) -> str:
        """Key of the SAE."""
        return _key("sae", {"activations": self.activation_key, "sae": self.sae.model_dump(mode="json")})


class AnalyzeRequest(_Request):
    """Every score of one SAE against the taxonomy of one data set.

    `embedding_key`: the activation set in which monosemanticity compares images; None: `activation_key`.
    """

    sae_key: str
    activation_key: str
    dataset: DatasetRef
    scoring: ScoringConfig
    embedding_key: str | None = None

    @property
    def key(self) -> str:
        """Key of the analysis."""
        return _key(
            "analysis",
            {
                "sae": self.sae_key,
                "dataset": self.dataset.fingerprint,
                "taxonomy": self.dataset.taxonomy_key,
                # Which set it is counts, and not by which name a request called it.
                "scoring": self.scoring.model_dump(mode="json", exclude={"embeddings"}),
                "embeddings": self.embedding_key,
            },
        )

    @property
    def config(self) -> dict[str, Any]:
        """The scoring as the analysis' row keeps it: the same for every request of this key."""
        return self.scoring.model_dump(mode="json") | {
            "embeddings": self.embedding_key or self.activation_key,
            "format": ANALYSIS_FORMAT,
        }


class CompareRequest(_Request):
    """The analyses of one study against their controls and against each other.

    `analyses`: their keys, sorted; `dataset` is that of all of them.
    """

    analyses: tuple[str, ...]
    dataset: DatasetRef
    comparison: ComparisonConfig

    @property
    def key(self) -> str:
        """Key of the comparison."""
        return _key(
            "comparison", {"analyses": list(self.analyses), "comparison": self.comparison.model_dump(mode="json")}
        )


class SubmitRequest(_Request):
    """What a user asks for in one submit: some layers of one model on one data set, with one or more SAEs each."""

    name: str | None = None  # of the study; None: made from model and data set
    model: str
    revision: str | None = None
    dataset: str | None = None  # None: the first one registered
    layers: tuple[int, ...] | Literal["all"]
    saes: tuple[SaeConfig, ...]
    extraction: ExtractionConfig = ExtractionConfig()
    scoring: ScoringConfig = ScoringConfig()
    comparison: ComparisonConfig = ComparisonConfig()
    priority: int = Field(0, ge=0, le=9, description="0 to 9; jobs of higher priority run first")


def sae_label(sae: SaeConfig) -> str:
    """The SAE in a few words: kind, expansion and every setting that is not the default."""
    chosen = _chosen(sae, SaeConfig(kind=sae.kind), {"kind", "expansion"})
    return f"{sae.kind} SAE x{sae.expansion}" + (f" ({', '.join(chosen)})" if chosen else "")


def extraction_label(extraction: ExtractionConfig) -> str:
    """Which activations: the tokens, and every setting that is not the default and changes more than rounding."""
    chosen = _chosen(extraction, ExtractionConfig(), {"tokens", "shard_images", "batch_size", "max_image_pixels"})
    return extraction.tokens + (f" ({', '.join(chosen)})" if chosen else "")


def scoring_label(scoring: ScoringConfig) -> str:
    """Every setting of the scoring that is not the default, in brackets behind a space; nothing where all are."""
    chosen = _chosen(scoring, ScoringConfig(), set())
    return f" ({', '.join(chosen)})" if chosen else ""


def _chosen(config: BaseModel, default: BaseModel, left_out: set[str]) -> list[str]:
    defaults = default.model_dump()
    values = {name: value for name, value in config.model_dump().items() if name not in left_out}
    return [
        f"{name}={'+'.join(map(str, value)) or 'none' if isinstance(value, tuple) else value}"
        for name, value in values.items()
        if value != defaults[name]
    ]


def study_key(comparison_key: str, dataset_id: int) -> str:
    """What makes two requests the same study.

    The comparison's key stands for all analyses, and each of theirs for model, images, layer, SAE, extraction and
    scoring. The data set counts by its number, too: the same images under another name are another study.
    """
    return hashlib.sha256(f"{comparison_key}:{dataset_id}".encode()).hexdigest()


def complete_extraction(given: Mapping[str, Any], settings: Settings) -> ExtractionConfig:
    """The extraction of the settings that a user gave; the others have defaults that suit them.

    Raises:
        pydantic.ValidationError: for values that cannot be.
    """
    # An image has hundreds of patch tokens, so fewer images make a shard of the same size.
    shard_images = 64 if given.get("tokens") == "patches" else ExtractionConfig.model_fields["shard_images"].default
    return ExtractionConfig(**{"shard_images": shard_images, "max_image_pixels": settings.max_image_pixels, **given})
