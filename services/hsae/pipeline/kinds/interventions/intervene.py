"""Kind intervene: one analysis and its images -> what the model loses when latents of some nodes are edited."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from hsae.backbones.spec import BackboneSpec
from hsae.catalog import InterventionSet
from hsae.catalog.queries.known_names import require_nodes
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.frozen_model import FrozenModel
from hsae.interventions.config import MAX_EDITS, InterveneSettings
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.artifact import artifact_key
from hsae.pipeline.kinds.setting_labels import settings_label
from hsae.pipeline.kinds.stage import Asked, Stage, StageRequest
from hsae.pipeline.kinds.train import described
from hsae.split_config import ScoreSplit, SplitConfig

# Raised whenever the same request would give other rows than before.
INTERVENE_FORMAT = 1


class InterveneRequest(StageRequest):
    """Interventions on the latents of one analysis.

    Attributes:
        analysis_key: the analysis, which says the latents' labels and activations.
        sae_key: its SAE.
        activation_key: the activations of the scored images in the layer.
        model: the backbone.
        layer: the layer of the SAE.
        dataset: the scored images.
        extraction: how the SAE's activations were extracted.
        intervene: which nodes, how, and what is read.
        split: the parts of the images of `dataset`; None: in-sample.
    """

    analysis_key: str
    sae_key: str
    activation_key: str
    model: BackboneSpec
    layer: int
    dataset: DatasetRef
    extraction: ExtractionConfig
    intervene: InterveneSettings
    split: SplitConfig | ScoreSplit | None = None

    @property
    def key(self) -> str:
        """Key of the set. The analysis' key stands for model, layer, images, split and SAE."""
        content = {"analysis": self.analysis_key, "intervene": self.intervene.key_fields(), **self._of_the_pass()}
        return artifact_key("interventions", INTERVENE_FORMAT, content)

    @property
    def images_at_once(self) -> int:
        """How many images go through the backbone at once, at most: no more than in the extraction."""
        return self.extraction.part_of(self.intervene.batch_size)

    def _of_the_pass(self) -> dict[str, Any]:
        return self.extraction.pass_fields(self.intervene.batch_size)

    @property
    def config(self) -> dict[str, Any]:
        """The settings as the set's row stores them."""
        return self.intervene.model_dump(mode="json") | self._of_the_pass() | {"format": INTERVENE_FORMAT}


class InterveneStage(Stage[InterveneRequest]):
    """Acts on latents, if a study asks for it. A set is rows only, all of them written in its last transaction."""

    kind = "intervene"
    request = InterveneRequest
    queue = "gpu"
    unit = "images"
    code = "hsae.pipeline.stages.interventions.intervene:intervene"
    after = ("extract", "train", "import", "analyze")
    per = "sae"
    settings = InterveneSettings
    tells_studies_apart = False  # interventions change no other result
    table = InterventionSet

    def is_wanted(self, own: Mapping[str, FrozenModel]) -> bool:
        """Only if the settings name nodes, or ask for latents one by one."""
        given = own.get(self.kind)
        return isinstance(given, InterveneSettings) and given.is_asked

    def ask(self, asked: Asked) -> InterveneRequest:
        """Interventions on the SAE's latents, on the images that were scored."""
        (layer,) = asked.layers
        apart, settings = asked.apart, asked.settings(InterveneSettings)
        asked.require_stream("interventions edit", "--intervene")
        if settings.n_edits > MAX_EDITS:
            raise UserError(
                f"intervene asks for {settings.n_edits} edits per SAE (nodes x arms x doses, and latents one by one),"
                f" more than {MAX_EDITS}: ask for fewer nodes, doses, latents or draws of random ones"
            )
        return InterveneRequest(
            analysis_key=asked.one_key("analyze"),
            sae_key=asked.sae_key,
            activation_key=asked.one_key("extract") if apart is None else apart.activation_key,
            model=asked.model,
            layer=layer,
            dataset=asked.scored,
            extraction=asked.extraction,
            intervene=settings,
            split=asked.division,
        )

    def check_names(self, asked: Asked, session: Session) -> None:
        """The nodes are of the scored images."""
        require_nodes(session, asked.scored.id, asked.settings(InterveneSettings).nodes)

    def title(self, asked: Asked) -> str:
        """On which latents of which SAE, and for which nodes."""
        settings = asked.settings(InterveneSettings)
        where = f"{asked.scored.name}{asked.trained_on}"
        return f"intervene on {described(asked)} on {where}{settings_label(settings)}"

    def needs(self, request: InterveneRequest) -> tuple[str, ...]:
        """The analysis; its SAE and activations exist once it does."""
        return (request.analysis_key,)


INTERVENE = InterveneStage()
