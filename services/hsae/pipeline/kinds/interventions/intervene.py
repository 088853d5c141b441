"""Kind intervene: one analysis and its images -> what the model loses when latents of some nodes are edited."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from hsae.catalog import InterventionSet
from hsae.catalog.queries.known_names import require_nodes
from hsae.errors import UserError
from hsae.frozen_model import FrozenModel
from hsae.interventions.config import MAX_EDITS, InterveneSettings
from hsae.pipeline.kinds.artifact import artifact_key
from hsae.pipeline.kinds.bases.of_analysis import PassRequest, of_analysis
from hsae.pipeline.kinds.setting_labels import settings_label
from hsae.pipeline.kinds.stage import Asked, Stage
from hsae.pipeline.kinds.train import described
from hsae.split_config import ScoreSplit, SplitConfig

# Raised whenever the same request would give other rows than before.
INTERVENE_FORMAT = 1


class InterveneRequest(PassRequest):
    """Interventions on the latents of one analysis.

    Attributes:
        activation_key: the activations of the scored images in the layer.
        intervene: which nodes, how, and what is read.
        split: the parts of the images of `dataset`; None: in-sample.
    """

    activation_key: str
    intervene: InterveneSettings
    split: SplitConfig | ScoreSplit | None = None

    @property
    def key(self) -> str:
        """Key of the set. The analysis' key stands for model, layer, images, split and SAE."""
        content = {"analysis": self.analysis_key, "intervene": self.intervene.key_fields(), **self.of_the_pass()}
        return artifact_key("interventions", INTERVENE_FORMAT, content)

    @property
    def batch_size(self) -> int:
        """See `PassRequest`."""
        return self.intervene.batch_size

    @property
    def config(self) -> dict[str, Any]:
        """The settings as the set's row stores them."""
        return self.intervene.model_dump(mode="json") | self.of_the_pass() | {"format": INTERVENE_FORMAT}


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
        apart, settings = asked.apart, asked.settings(InterveneSettings)
        asked.require_stream("interventions edit", "--intervene")
        if settings.n_edits > MAX_EDITS:
            raise UserError(
                f"intervene asks for {settings.n_edits} edits per SAE (nodes x arms x doses, and latents one by one),"
                f" more than {MAX_EDITS}: ask for fewer nodes, doses, latents or draws of random ones"
            )
        return InterveneRequest(
            **of_analysis(asked),
            activation_key=asked.one_key("extract") if apart is None else apart.activation_key,
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
