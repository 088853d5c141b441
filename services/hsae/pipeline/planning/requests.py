"""A user's request in one submit, and the key by which two submits are the same study."""

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator

from hsae.extraction.config import DropAfter, ExtractionConfig
from hsae.frozen_model import FrozenModel
from hsae.hierarchy.config import ComparisonConfig, ProbeConfig, ScoringConfig
from hsae.pipeline.kinds.registry import own_settings
from hsae.sae.config import SaeConfig
from hsae.split_config import SplitConfig

Splits = tuple[SplitConfig | None, ...]
"""The splits by each of which a study trains and scores; None: in-sample."""
MAX_SEEDS = 100
"""Seeds of every SAE configuration in one study."""


def with_seeds(saes: Iterable[SaeConfig], n_seeds: int) -> tuple[SaeConfig, ...]:
    """Every SAE with its seed, the next one, and so on, `n_seeds` in all; what comes twice counts once."""
    return tuple(
        dict.fromkeys(sae.model_copy(update={"seed": sae.seed + more}) for sae in saes for more in range(n_seeds))
    )


class SubmitRequest(FrozenModel):
    """A user's request in one submit: some layers of one model on one data set, with one or more SAEs each."""

    name: str | None = None  # of the study; None: made from model and data set
    model: str
    revision: str | None = None
    random_init: int | None = None  # seed of random weights; None: the model's own
    dataset: str | None = None  # None: the first one registered
    score_dataset: str | None = None  # that selects and scores; None: a part of `dataset`
    layers: tuple[int, ...] | Literal["all"]
    saes: tuple[SaeConfig, ...]
    sae_from: tuple[str, ...] = ()  # names or paths of further SAEs, that other programs trained
    extraction: ExtractionConfig = ExtractionConfig()
    scoring: ScoringConfig = ScoringConfig()
    comparison: ComparisonConfig = ComparisonConfig()
    probe: ProbeConfig = ProbeConfig()
    own: dict[str, SerializeAsAny[FrozenModel]] = Field(
        default_factory=dict, description="by kind of job the settings that only its stage has"
    )
    split: SplitConfig | None = SplitConfig()  # None: in-sample
    cross_fit: bool = Field(
        default=True,
        description="with too few images for three parts, train and score both halves of them in turn; else one way",
    )
    drop_after: DropAfter | None = Field(
        default=None, description="analyze: activations are deleted once every job that reads them has succeeded"
    )
    priority: int = Field(default=0, ge=0, le=9, description="0 to 9; jobs of higher priority run first")

    @field_validator("own", mode="before")
    @classmethod
    def _by_their_classes(cls, own: Any) -> Any:
        """Settings that were written as JSON, such as those of `study.request`."""
        if not isinstance(own, Mapping):
            return own
        classes = own_settings()
        return {
            kind: classes[kind].model_validate(given) if kind in classes and isinstance(given, Mapping) else given
            for kind, given in own.items()
        }

    @property
    def may_cross_fit(self) -> bool:
        """Whether both halves are scored where the images are halved; not if a fold or groups are named."""
        split = self.split
        if split is None or self.score_dataset is not None:
            return False
        return self.cross_fit and split.groups is None and not split.fold

    def splits(self, *, is_halved: bool) -> Splits:
        """Both folds of a data set that is halved, unless the request asks for one; else the request's own split."""
        if self.split is None or not is_halved or not self.may_cross_fit:
            return (self.split,)
        return (self.split, self.split.model_copy(update={"fold": 1}))


def study_key(
    comparison_key: str,
    dataset_id: int,
    probe: ProbeConfig = ProbeConfig(),  # noqa: B008 -- frozen
    score_dataset_id: int | None = None,
    own: Mapping[str, FrozenModel] = MappingProxyType({}),
) -> str:
    """The key by which two requests are the same study.

    The comparison's key stands for all analyses, and their keys for model, images, layer, SAE, extraction and scoring.
    The data set's number is part of it, too: the same images under another name are another study. So are probes, and
    settings that only one stage has, if they are not the default, and the number of another data set that is scored.
    """
    content = f"{comparison_key}:{dataset_id}"
    if score_dataset_id is not None:
        content += f":scored on {score_dataset_id}"
    if probe != ProbeConfig():
        content += f":{probe.model_dump_json()}"
    for kind, settings in sorted(own.items()):
        if settings != type(settings)():
            content += f":{kind}:{settings.model_dump_json()}"
    return hashlib.sha256(content.encode()).hexdigest()
