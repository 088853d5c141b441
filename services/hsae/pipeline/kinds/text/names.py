"""Kind names: one analysis and a CLIP-like model -> names of latents by text."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from sqlalchemy.orm import Session

from hsae.backbones.hooks.names import EMBEDDING
from hsae.backbones.names import short_model_name
from hsae.catalog import NameSet
from hsae.frozen_model import FrozenModel
from hsae.pipeline.kinds.artifact import NamedObject, artifact_key, titled_rows
from hsae.pipeline.kinds.bases.of_analysis import PassRequest, of_analysis
from hsae.pipeline.kinds.setting_labels import settings_label
from hsae.pipeline.kinds.stage import Asked, Stage
from hsae.pipeline.kinds.train import described
from hsae.split_config import ScoreSplit, SplitConfig
from hsae.store.keys import NAMES, directions_key
from hsae.text.config import WORDNET, NameMethod, NameSettings

# Raised whenever the same request would give other rows than before.
NAMES_FORMAT = 1


class NameRequest(PassRequest):
    """Names of latents of one analysis.

    Attributes:
        names: by which model, which words, and how.
        split: the parts of the images of `dataset`; None: in-sample.
    """

    names: NameSettings
    split: SplitConfig | ScoreSplit | None = None

    @property
    def key(self) -> str:
        """Key of the set. The analysis' key stands for model, layer, images, split and SAE."""
        content = {"analysis": self.analysis_key, "names": self.names.key_fields(), **self.of_the_pass()}
        return artifact_key("names", NAMES_FORMAT, content)

    @property
    def batch_size(self) -> int:
        """See `PassRequest`."""
        return self.names.batch_size

    def of_the_pass(self) -> dict[str, Any]:
        """See `PassRequest`; nothing where no image is looked at."""
        return {} if self.method == "direction" else super().of_the_pass()

    @property
    def config(self) -> dict[str, Any]:
        """The settings as the set's row stores them, without the words, of which it has the number."""
        return self.names.model_dump(mode="json", exclude={"words"}) | self.of_the_pass() | {"format": NAMES_FORMAT}

    @property
    def method(self) -> NameMethod:
        """What of a latent is compared with words: by the text tower of the backbone itself, or by another model.

        Whose embedding is hooked, its directions are in the space of words. Whose stream is hooked, an ablation can go
        on to the embedding. Any other backbone is seen through its images.
        """
        same = self.model.random_init is None and (self.model.name, self.model.revision) == (
            self.names.by, self.names.revision,
        )  # fmt: skip
        if same and self.extraction.hook == EMBEDDING:
            return "direction"
        return "effect" if same and self.extraction.passes_on_stream(self.model.model_type) else "images"


class NameStage(Stage[NameRequest]):
    """Names latents, if a study asks for it. All rows of a set are written in its last transaction."""

    kind = "names"  # a study file has `name` for its own
    request = NameRequest
    queue = "gpu"
    unit = "images"
    code = "hsae.pipeline.stages.text.names:make_names"
    after = ("extract", "train", "import", "analyze")
    per = "sae"
    folder = NAMES
    settings = NameSettings
    tells_studies_apart = False  # names change no other result
    table = NameSet

    def is_wanted(self, own: Mapping[str, FrozenModel]) -> bool:
        """Only if the settings name a model."""
        given = own.get(self.kind)
        return isinstance(given, NameSettings) and bool(given.by)

    def settled(self, own: FrozenModel, model_cache: Path | None) -> FrozenModel:
        """The settings with the model's identity and the words of the file.

        Raises:
            UserError: the model has no text tower, or there is no word that it knows.
        """
        if not isinstance(own, NameSettings) or not own.by:
            return own
        found: FrozenModel = resolve_name("hsae.text.settled:settled_names")(own, model_cache)
        return found

    def ask(self, asked: Asked) -> NameRequest:
        """Names of the SAE's latents, from the images that were scored."""
        return NameRequest(
            **of_analysis(asked),
            names=asked.settings(NameSettings),
            split=asked.division,
        )

    def title(self, asked: Asked) -> str:
        """Which latents of which SAE, by which model, and by which words."""
        names = asked.settings(NameSettings)
        where = f"{asked.scored.name}{asked.trained_on}"
        words = WORDNET if names.vocabulary == WORDNET else f"{len(names.words)} words of {Path(names.vocabulary).name}"
        # What a submit found, and what is named before, is no setting for people.
        shown = names.model_copy(update={"by": "", "vocabulary": WORDNET, "revision": "", "tokenizer": "", "words": ()})
        by = short_model_name(names.by)
        return f"name latents of {described(asked)} on {where} by {by} with {words}{settings_label(shown)}"

    def needs(self, request: NameRequest) -> tuple[str, ...]:
        """The analysis; its SAE and activations exist once it does."""
        return (request.analysis_key,)

    def named_objects(self, session: Session, key: str | None = None) -> Iterator[NamedObject]:
        """The directions."""
        for row, title in titled_rows(session, NameSet, key):
            yield NamedObject(directions_key(row.key, row.directions_sha256), row.directions_sha256, title, row.job_id)


NAME = NameStage()
