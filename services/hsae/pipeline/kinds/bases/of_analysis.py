"""Requests of kinds that look at the latents of one analysis: map, intervene, names."""

from abc import abstractmethod
from typing import Any

from hsae.backbones.spec import BackboneSpec
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.stage import Asked, StageRequest


class AnalysisRequest(StageRequest):
    """Latents of one analysis.

    Attributes:
        analysis_key: the analysis, which says the latents' labels and activations.
        sae_key: its SAE.
        model: the backbone.
        layer: the layer of the SAE.
        dataset: the scored images.
        extraction: how the SAE's activations were extracted.
    """

    analysis_key: str
    sae_key: str
    model: BackboneSpec
    layer: int
    dataset: DatasetRef
    extraction: ExtractionConfig


class PassRequest(AnalysisRequest):
    """The same of a kind that runs the backbone again, with the extraction's precision, parts and decoding."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Images per pass, as the kind's settings have it."""

    @property
    def images_at_once(self) -> int:
        """How many images go through the backbone at once, at most: no more than in the extraction."""
        return self.extraction.part_of(self.batch_size)

    def of_the_pass(self) -> dict[str, Any]:
        """What key and row say of the pass; nothing at the extraction's defaults."""
        return self.extraction.pass_fields(self.batch_size)


def of_analysis(asked: Asked) -> dict[str, Any]:
    """The fields of an `AnalysisRequest` for the one SAE and layer that a study asks of a stage."""
    (layer,) = asked.layers
    return {
        "analysis_key": asked.one_key("analyze"),
        "sae_key": asked.sae_key,
        "model": asked.model,
        "layer": layer,
        "dataset": asked.scored,
        "extraction": asked.extraction,
    }
