"""The descriptor of a kind of job: everything that other parts of the pipeline need to know about it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, ClassVar, Generic, Literal, TypeVar

from sqlalchemy.orm import Session

from hsae.backbones.names import short_model_name
from hsae.backbones.spec import BackboneSpec
from hsae.catalog import Json
from hsae.extraction.config import ExtractionConfig
from hsae.frozen_model import FrozenModel
from hsae.hierarchy.config import ComparisonConfig, ProbeConfig, ScoringConfig
from hsae.pipeline.estimate import NOTHING, Estimate
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.pipeline.kinds.artifact import NamedObject
from hsae.pipeline.kinds.scored_apart import ScoredApart
from hsae.sae.config import SaeConfig
from hsae.split_config import ScoreSplit, SplitConfig
from hsae.store.keys import artifact_prefix

Scope = Literal["layer", "sae", "setting", "study"]
"""What a job is of: a layer, an SAE of a layer, the SAEs of one setting in all layers, or a whole study."""
S = TypeVar("S", bound=FrozenModel)


class StageRequest(FrozenModel, ABC):
    """The request of a job, as its row stores it: everything that the stage needs to know."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Key of the job, and of its artifact if it makes only one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a study asks of a stage; `Stage.ask` makes the request from it.

    Attributes:
        model: the backbone.
        dataset: the labelled images.
        layers: the layers of the job: one, or for the scope `study` all layers of the study.
        extraction: how activations are extracted.
        scoring: how SAEs are scored.
        comparison: how analyses are compared.
        probe: how layers are probed for classes.
        split: the parts in which images are used; None: in-sample.
        score_dataset: the labelled images that select and score, where `dataset` trains alone; None: `dataset` itself.
        scored_key: the activations of `score_dataset` at the one layer.
        sae: the SAE; None outside the scope `sae`.
        embedding_key: the activation set in which monosemanticity compares images; None: that of the layer itself.
        n_images: number of images of `dataset`, for estimates.
        n_scored: number of images of `scored`, for estimates.
        n_nodes: number of taxonomy nodes of `scored`, for estimates.
        others: of the scope `setting` the same of the study's other layers, each with its own keys; the layer of the
            request is the deepest.
        own: by kind of job the settings that only its stage has.
        keys: by kind of job the artifacts that are planned for these layers and this SAE, in the plan's order.
    """

    model: BackboneSpec
    dataset: DatasetRef
    layers: tuple[int, ...]
    extraction: ExtractionConfig
    scoring: ScoringConfig
    comparison: ComparisonConfig
    probe: ProbeConfig
    split: SplitConfig | None = None
    score_dataset: DatasetRef | None = None
    scored_key: str | None = None
    sae: SaeConfig | None = None
    embedding_key: str | None = None
    n_images: int = 0
    n_scored: int = 0
    n_nodes: int = 0
    others: "tuple[Asked, ...]" = ()
    own: Mapping[str, FrozenModel] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def model_name(self) -> str:
        """The backbone's name for people."""
        return short_model_name(self.model.name)

    @property
    def all_layers(self) -> tuple[int, ...]:
        """The layers of the job, those of `others` among them, ascending."""
        return tuple(sorted((*self.layers, *(layer for other in self.others for layer in other.layers))))

    @property
    def scored(self) -> DatasetRef:
        """The labelled images of which every score is."""
        return self.dataset if self.score_dataset is None else self.score_dataset

    @property
    def trained_on(self) -> str:
        """For titles: `, trained on NAME` where that is another data set than the scored one, else empty."""
        return "" if self.score_dataset is None else f", trained on {self.dataset.name}"

    @property
    def division(self) -> SplitConfig | ScoreSplit | None:
        """How the scored images are divided; None: in-sample."""
        return self.split if self.score_dataset is None or self.split is None else ScoreSplit.of(self.split)

    @property
    def training_split(self) -> SplitConfig | None:
        """The split of the images of `dataset`; None: all of them train."""
        return self.split if self.score_dataset is None else None

    @property
    def apart(self) -> ScoredApart | None:
        """What a request says of the scored data set; None where it is the one that trains."""
        division = self.division
        if self.scored_key is None or not isinstance(division, ScoreSplit):
            return None
        return ScoredApart(train_dataset=self.dataset, activation_key=self.scored_key, split=division)

    def of_scored(self) -> "Asked":
        """What is asked of the scored images alone; augmented views are training rows, which they have none of."""
        if self.score_dataset is None:
            return self
        extraction = self.extraction
        if extraction.n_views > 1:
            seed = extraction.seed if extraction.patches_per_image else 0
            extraction = extraction.model_copy(update={"n_views": 1, "seed": seed})
        return replace(
            self, dataset=self.score_dataset, score_dataset=None, extraction=extraction, n_images=self.n_scored
        )

    @property
    def one_sae(self) -> SaeConfig:
        """The SAE; only the scope `sae` has one.

        Raises:
            ValueError: the scope is another one.
        """
        if self.sae is None:
            raise ValueError("only a stage of the scope `sae` has an SAE")
        return self.sae

    @property
    def sae_key(self) -> str:
        """The key of the one SAE, which a training or an import makes."""
        (key,) = (*self.keys.get("train", ()), *self.keys.get("import", ()))
        return key

    def settings(self, expected: type[S]) -> S:
        """The settings that only one stage has, by their class; the defaults where the study gives none."""
        return next((given for given in self.own.values() if isinstance(given, expected)), expected())

    def one_key(self, kind: str) -> str:
        """The key of the only artifact of a kind."""
        (key,) = self.keys[kind]
        return key


R = TypeVar("R", bound=StageRequest)


class Stage(ABC, Generic[R]):
    """A kind of job. Subclasses define what differs; a method that is not overridden does nothing.

    Attributes:
        kind: the name, as in `job.kind`.
        request: the class of the job's request.
        queue: which workers take it, `gpu` or `cpu`; those of GPUs where their minutes exceed a deployment's setting.
        unit: what its progress counts.
        code: `module:function`, a function of (request, context) that returns a short summary as JSON. It is imported
            when the first job runs.
        after: the kinds whose artifacts it needs.
        per: whether a submit asks for it for every layer, for every SAE of every layer, for the SAEs of one setting in
            all layers, or once per study; None: only where other stages need it. `scope` may say otherwise for a study.
        folder: the folder of the bucket for its artifacts, `<folder>/<key>/...`; None: it stores no objects.
        settings: the class of the settings that only this stage has, each with a default. A study file has them under
            the kind's name, and `Asked.settings` hands them to `ask` and `title`; None: it has none.
        tells_studies_apart: whether requests that differ only in these settings are different studies.
        table: the catalog's table with a row for each artifact (`key`, `job_id`); None: there is only the job's row.
        changes_hands: whether a submit may give an artifact that is not published yet to another job.
        fills: the kind whose artifacts its jobs store objects of, one job each; None: it makes artifacts of its own.
    """

    kind: ClassVar[str]
    request: type[R]
    queue: ClassVar[str]
    unit: ClassVar[str]
    code: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    per: ClassVar[Scope | None] = None
    folder: ClassVar[str | None] = None
    settings: ClassVar[type[FrozenModel] | None] = None
    tells_studies_apart: ClassVar[bool] = True
    table: ClassVar[type[Any] | None] = None
    changes_hands: ClassVar[bool] = False
    fills: ClassVar[str | None] = None

    def is_wanted(self, own: Mapping[str, FrozenModel]) -> bool:
        """Whether a study with these settings, by the kind that has them, asks for the stage at all."""
        del own
        return True

    def scope(self, own: Mapping[str, FrozenModel]) -> Scope | None:
        """What a job is of in a study with these settings; `per` unless a setting decides it."""
        del own
        return self.per

    def is_for(self, sae: SaeConfig) -> bool:
        """Of the scopes `sae` and `setting`: whether an SAE has such a job at all."""
        del sae
        return True

    def settled(self, own: FrozenModel, model_cache: Path | None) -> FrozenModel:
        """Its settings with what only the place of the submit knows, such as the content of files that they name."""
        del model_cache
        return own

    @abstractmethod
    def ask(self, asked: Asked) -> R:
        """Make the request of a study's job."""

    def check_names(self, asked: Asked, session: Session) -> None:
        """Refuse names in the settings that the catalog does not have; called when a study is planned.

        Raises:
            UserError: one of them is unknown.
        """
        del asked, session

    @abstractmethod
    def title(self, asked: Asked) -> str:
        """The job in one line, for people."""

    def estimate(self, asked: Asked) -> Estimate:
        """What the job will take and leave behind."""
        del asked
        return NOTHING

    def needs(self, request: R) -> tuple[str, ...]:
        """Keys of the artifacts that must exist before the job starts."""
        del request
        return ()

    def artifact_keys(self, request: R) -> tuple[str, ...]:
        """Keys of the artifacts that the job makes."""
        return (request.key,)

    def prefixes(self, request: R) -> list[str]:
        """Folders of the job's artifacts in the bucket."""
        return [] if self.folder is None else [artifact_prefix(self.folder, key) for key in self.artifact_keys(request)]

    def named_objects(self, session: Session, key: str | None = None) -> Iterator[NamedObject]:
        """The objects that rows name, of one artifact or of all."""
        del session, key
        return iter(())

    def forget(self, request: R, job_id: int, session: Session) -> None:
        """Delete the rows that an ended attempt left, in a transaction that holds the job's row.

        The objects that these rows named are deleted after that.
        """
        del request, job_id, session

    def forget_object(self, object_key: str, session: Session) -> None:
        """Delete the rows from which the stage would conclude that a lost object exists."""
        del object_key, session

    def check_retry(self, request: R, job_id: int, session: Session) -> None:
        """Refuse to run an ended job again; only called for a stage whose artifacts change hands.

        Raises:
            UserError: another job makes its artifacts now.
        """
        del request, job_id, session

    def pass_key(self, request: R) -> str | None:
        """What jobs have in common that one worker may run over one pass of the data; None: it runs by itself."""
        del request
        return None

    def pass_bytes(self, request: R, session: Session) -> int:
        """The memory that a job needs besides what is shared in such a pass."""
        del request, session
        return 0

    def run(self, request: R, context: Any) -> Json:
        """Make the artifact; returns a short summary."""
        summary: Json = resolve_name(self.code)(request, context)
        return summary
