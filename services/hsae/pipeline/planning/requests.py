"""What is asked for, and the content address of what it makes.

An artifact's key is a sha256 over everything that determines its content and nothing else: where a model or a data
set lies, or which other layers were asked for in the same breath, is no part of it, so that two requests which need the
same artifact share it.
"""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field

from hsae.backbones.spec import BackboneSpec
from hsae.extraction.config import ExtractionConfig
from hsae.frozen_model import FrozenModel
from hsae.hierarchy.config import ComparisonConfig, ScoringConfig
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.sae.config import SaeConfig

# Raised whenever the same request would give other bytes than before; docs/storage-format.md has the exceptions.
ANALYSIS_FORMAT = 3
_FORMATS = {"activations": 1, "sae": 1, "analysis": ANALYSIS_FORMAT, "comparison": 1}


def _key(kind: str, content: dict[str, Any]) -> str:
    canonical = json.dumps(
        {"kind": kind, "format": _FORMATS[kind], **content},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


class ExtractRequest(FrozenModel):
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


class TrainRequest(FrozenModel):
    """One SAE on one activation set."""

    activation_key: str
    sae: SaeConfig

    @property
    def key(self) -> str:
        """Key of the SAE."""
        return _key("sae", {"activations": self.activation_key, "sae": self.sae.model_dump(mode="json")})


class AnalyzeRequest(FrozenModel):
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


class CompareRequest(FrozenModel):
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


class SubmitRequest(FrozenModel):
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


def study_key(comparison_key: str, dataset_id: int) -> str:
    """What makes two requests the same study.

    The comparison's key stands for all analyses, and each of theirs for model, images, layer, SAE, extraction and
    scoring. The data set counts by its number, too: the same images under another name are another study.
    """
    return hashlib.sha256(f"{comparison_key}:{dataset_id}".encode()).hexdigest()
