"""Kind intervene: analyses and their images -> what the model loses when latents of some nodes are edited.

A job edits the layer of one analysis, or with `layers: together` those of one SAE setting in all layers of a study.
"""

from collections.abc import Mapping
from dataclasses import replace
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
from hsae.pipeline.kinds.stage import Asked, Scope, Stage
from hsae.pipeline.kinds.train import described
from hsae.split_config import ScoreSplit, SplitConfig

# Raised whenever the same request would give other rows than before.
INTERVENE_FORMAT = 2


class EditedLayer(FrozenModel):
    """A layer that is edited.

    Attributes:
        layer: the layer.
        analysis_key: the analysis of its SAE.
        sae_key: the SAE.
        activation_key: the activations of the scored images in the layer.
    """

    layer: int
    analysis_key: str
    sae_key: str
    activation_key: str


class InterveneRequest(PassRequest):
    """Interventions on the latents of one analysis, or of several in one pass; the set belongs to the deepest.

    Attributes:
        activation_key: the activations of the scored images in the layer.
        others: the other layers that every pass edits, too; all are before `layer`.
        intervene: which nodes, how, and what is read.
        split: the parts of the images of `dataset`; None: in-sample.
    """

    activation_key: str
    others: tuple[EditedLayer, ...] = ()
    intervene: InterveneSettings
    split: SplitConfig | ScoreSplit | None = None

    @property
    def key(self) -> str:
        """Key of the set. The analysis' key stands for model, layer, images, split and SAE."""
        content = {"analysis": self.analysis_key, "intervene": self.intervene.key_fields(), **self.of_the_pass()}
        if self.others:
            content["others"] = [other.analysis_key for other in self.others]
        return artifact_key("interventions", INTERVENE_FORMAT, content)

    @property
    def edited(self) -> tuple[EditedLayer, ...]:
        """Every layer that is edited, ascending."""
        own = {name: getattr(self, name) for name in EditedLayer.model_fields}
        return (*sorted(self.others, key=lambda other: other.layer), EditedLayer(**own))

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

    def scope(self, own: Mapping[str, FrozenModel]) -> Scope | None:
        """One job per SAE; where all layers are edited in one pass, one per setting of SAEs."""
        given = own.get(self.kind)
        return "setting" if isinstance(given, InterveneSettings) and given.layers == "together" else self.per

    def ask(self, asked: Asked) -> InterveneRequest:
        """Interventions on the SAE's latents, on the images that were scored."""
        settings = asked.settings(InterveneSettings)
        _require_stream(asked)
        if settings.n_edits > MAX_EDITS:
            raise UserError(
                f"intervene asks for {settings.n_edits} edits per SAE (nodes x arms x doses, and latents one by one),"
                f" more than {MAX_EDITS}: ask for fewer nodes, doses, latents or draws of random ones"
            )
        if settings.layers == "together" and not asked.others:
            raise UserError(
                "`layers: together` of intervene edits several layers in one pass, and the study has one: ask for more"
                " layers, or leave `layers: together` out"
            )
        return InterveneRequest(
            **of_analysis(asked),
            activation_key=_scored_activations(asked),
            others=tuple(_edited(other) for other in asked.others),
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
        whole = replace(asked, layers=asked.all_layers)
        return f"intervene on {described(whole)} on {where}{settings_label(settings)}"

    def needs(self, request: InterveneRequest) -> tuple[str, ...]:
        """The analyses; their SAEs and activations exist once they do."""
        return tuple(edited.analysis_key for edited in request.edited)


def _require_stream(asked: Asked) -> None:
    """Refuse activations of another place, or family, than those whose later blocks can be run again.

    Raises:
        UserError: the activations are of another hook point, of registers, or of another family.
    """
    if not asked.extraction.passes_on_stream(asked.model.model_type):
        raise UserError(
            "interventions edit class and patch tokens of the residual stream of vision transformers of transformers,"
            f" not {asked.extraction.tokens} at {asked.extraction.hook} of {asked.model.model_type}: leave --intervene"
            " out"
        )


def _scored_activations(asked: Asked) -> str:
    return asked.one_key("extract") if asked.apart is None else asked.apart.activation_key


def _edited(asked: Asked) -> EditedLayer:
    given = of_analysis(asked) | {"activation_key": _scored_activations(asked)}
    return EditedLayer(**{name: given[name] for name in EditedLayer.model_fields})


INTERVENE = InterveneStage()
