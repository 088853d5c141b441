"""Kind compare: the analyses of a study -> quantities and differences with intervals."""

from typing import Any

from pydantic import field_validator

from hsae.catalog import Comparison
from hsae.hierarchy.config import ComparisonConfig
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.artifact import artifact_key
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.report.ranges import ranges

# Raised whenever the same request would give other rows than before.
COMPARISON_FORMAT = 2


class CompareRequest(StageRequest):
    """The analyses of one study against their controls and against each other.

    Attributes:
        analyses: their keys, sorted.
        dataset: the data set of all of them.
        comparison: how they are compared.
    """

    analyses: tuple[str, ...]
    dataset: DatasetRef
    comparison: ComparisonConfig

    @field_validator("comparison", mode="before")
    @classmethod
    def _without_bootstrap(cls, comparison: Any) -> Any:
        """Jobs that earlier versions entered name the seed and number of resamples of a bootstrap."""
        if isinstance(comparison, dict):
            return {name: value for name, value in comparison.items() if name not in ("seed", "n_resamples")}
        return comparison

    @property
    def key(self) -> str:
        """Key of the comparison."""
        content = {"analyses": list(self.analyses), "comparison": self.comparison.model_dump(mode="json")}
        return artifact_key("comparison", COMPARISON_FORMAT, content)


class CompareStage(Stage[CompareRequest]):
    """Compares analyses. A comparison is rows only, all of them written in its last transaction."""

    kind = "compare"
    request = CompareRequest
    queue = "cpu"
    unit = "analyses"
    code = "hsae.pipeline.stages.compare:compare"
    after = ("analyze",)
    per = "study"
    table = Comparison

    def ask(self, asked: Asked) -> CompareRequest:
        """All analyses of the study."""
        return CompareRequest(
            analyses=tuple(sorted(asked.keys["analyze"])), dataset=asked.scored, comparison=asked.comparison
        )

    def title(self, asked: Asked) -> str:
        """Of which layers, on which images."""
        return f"compare the analyses of {asked.model_name} layer {ranges(asked.layers)} on {asked.scored.name}"

    def needs(self, request: CompareRequest) -> tuple[str, ...]:
        """The analyses."""
        return request.analyses


COMPARE = CompareStage()
