"""Kind import: an SAE that another program trained, on one activation set -> an SAE like our own."""

from hsae.catalog import Sae
from hsae.pipeline.kinds.artifact import artifact_key, split_content
from hsae.pipeline.kinds.setting_labels import split_suffix
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.pipeline.kinds.train import described
from hsae.sae.config import SaeConfig
from hsae.split_config import SplitConfig
from hsae.store.keys import SAES, artifact_prefix

# Raised whenever the same request would give other bytes than before.
IMPORT_FORMAT = 1


class ImportRequest(StageRequest):
    """One imported SAE on one activation set.

    Attributes:
        activation_key: the activations on which it is measured.
        sae: its config; `imported.key` is the hash of its weights and settings.
        split: it is measured on the images of the part `train`, as one that is trained here; None: on all images.
    """

    activation_key: str
    sae: SaeConfig
    split: SplitConfig | None = None

    @property
    def key(self) -> str:
        """Key of the SAE: what it is called here does not count."""
        origin = self.sae.imported
        if origin is None:
            raise ValueError("only an imported SAE is imported")
        content = {"activations": self.activation_key, "imported": origin.key}
        return artifact_key("imported sae", IMPORT_FORMAT, content | split_content(self.split))


class ImportStage(Stage[ImportRequest]):
    """Measures one imported SAE and publishes it as an SAE of the activation set, in the place of a training."""

    kind = "import"
    request = ImportRequest
    queue = "cpu"
    unit = "vectors"
    code = "hsae.pipeline.stages.imports.import_sae:import_sae"
    after = ("extract",)
    per = "sae"
    table = Sae

    def is_for(self, sae: SaeConfig) -> bool:
        """Of SAEs that are imported."""
        return sae.imported is not None

    def ask(self, asked: Asked) -> ImportRequest:
        """The SAE on its layer's activations."""
        return ImportRequest(activation_key=asked.one_key("extract"), sae=asked.one_sae, split=asked.training_split)

    def title(self, asked: Asked) -> str:
        """Which SAE of which layer."""
        return f"import {described(asked)}{split_suffix(asked.training_split)}"

    def needs(self, request: ImportRequest) -> tuple[str, ...]:
        """The activations."""
        return (request.activation_key,)

    def prefixes(self, request: ImportRequest) -> list[str]:
        """The folder that a training would have; the stage of trainings names its objects by the rows of `sae`."""
        return [artifact_prefix(SAES, request.key)]


IMPORT = ImportStage()
