"""Kind probe: one activation set and the taxonomy -> the class information in the layer's raw activations."""

from typing import Any

from hsae.catalog import ClassProbe
from hsae.hierarchy.config import ProbeConfig
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.artifact import artifact_key, split_content
from hsae.pipeline.kinds.scored_apart import ScoredApart, apart_content
from hsae.pipeline.kinds.setting_labels import extraction_label, probe_label
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.report.ranges import ranges
from hsae.split_config import SplitConfig, stored_score_split

# Raised whenever the same request would give other rows than before.
PROBE_FORMAT = 1


class ProbeRequest(StageRequest):
    """Every probe of one layer for the classes of one data set.

    Attributes:
        activation_key: the activations of the images that train.
        dataset: the labelled images that are scored.
        probe: how they are probed.
        split: the parts of the images that train and score; None: a quarter of every class is scored, or `apart`.
        apart: where `dataset` is another data set than the one that trains.
    """

    activation_key: str
    dataset: DatasetRef
    probe: ProbeConfig
    split: SplitConfig | None = None
    apart: ScoredApart | None = None

    @property
    def key(self) -> str:
        """Key of the class probe."""
        return artifact_key(
            "class_probe",
            PROBE_FORMAT,
            {
                "activations": self.activation_key,
                "dataset": self.dataset.fingerprint,
                "taxonomy": self.dataset.taxonomy_key,
                "probe": self.probe.model_dump(mode="json"),
                **split_content(self.split),
                **apart_content(self.apart),
            },
        )

    @property
    def config(self) -> dict[str, Any]:
        """What the probe's row stores of the request: the same for every request with this key."""
        split = {} if self.split is None else {"split": self.split.model_dump(mode="json")}
        if self.apart is not None:
            split = {"split": stored_score_split(self.apart.split, self.dataset.fingerprint)}
        return self.probe.model_dump(mode="json") | split | {"format": PROBE_FORMAT}


class ProbeStage(Stage[ProbeRequest]):
    """Probes one layer. A probe is rows only, all of them written in its last transaction."""

    kind = "probe"
    request = ProbeRequest
    queue = "cpu"
    unit = "levels"
    code = "hsae.pipeline.stages.probe:probe"
    after = ("extract",)
    per = "layer"
    table = ClassProbe

    def ask(self, asked: Asked) -> ProbeRequest:
        """The layer's activations, for the classes of the study's images."""
        return ProbeRequest(
            activation_key=asked.one_key("extract"),
            dataset=asked.scored,
            probe=asked.probe,
            split=asked.training_split,
            apart=asked.apart,
        )

    def title(self, asked: Asked) -> str:
        """Which activations of which layer, for the classes of which images, and how."""
        tokens = extraction_label(asked.extraction)
        place = f"{tokens} of {asked.model_name} layer {ranges(asked.layers)}"
        where = f"{asked.scored.name}{asked.trained_on}"
        return f"probe {place} for the classes of {where}{probe_label(asked.probe, asked.division)}"

    def needs(self, request: ProbeRequest) -> tuple[str, ...]:
        """The activations, of both data sets where there are two."""
        return (request.activation_key, *(() if request.apart is None else (request.apart.activation_key,)))


PROBE = ProbeStage()
