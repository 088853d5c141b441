"""How the images of a data set are divided into parts that train, select and score."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from hsae.errors import UserError
from hsae.frozen_model import FrozenModel
from hsae.pydantic_errors import one_line

IN_SAMPLE = "in-sample"
"""What a result is called whose latents were trained, chosen and scored on the same images."""
IN_SAMPLE_MEANING = "latents are chosen and scored on the images that trained the SAE"
NO_SPLIT = "none"
HALVED = "is_halved"
"""The field of a stored split that says whether there were two halves in place of three parts."""
SCORE_DATASET = "score_dataset"
"""The field of a stored split that names the data set that selects and scores, where another one trains."""
_SCORED = "scored"
_MIN_CLASSES = 3
_TOLERANCE = 1e-6
_DENOMINATOR = 10_000  # of shares: as exact as people write them


class NamedGroups(FrozenModel):
    """Which groups select and which score, by name; the images of all other groups train."""

    select: tuple[str, ...] = Field(min_length=1, description="groups on which latents are chosen")
    score: tuple[str, ...] = Field(min_length=1, description="groups that every reported number is of")

    @field_validator("select", "score")
    @classmethod
    def _in_one_order(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """The same groups have the same key, however they are listed."""
        return tuple(sorted(set(names)))

    @model_validator(mode="after")
    def _apart(self) -> "NamedGroups":
        both = sorted(set(self.select) & set(self.score))
        if both:
            raise ValueError(f"the groups {', '.join(both)} are to select and to score: name each once")
        return self


class SplitConfig(FrozenModel):
    """The shares of the images in the three parts; every field changes the parts. `datasets.split` assigns them.

    `None` in place of a config means no split: all images train, select and score.
    """

    train: float = Field(default=0.5, gt=0, lt=1, description="share of the images that SAEs are trained on")
    select: float = Field(default=0.25, gt=0, lt=1, description="share on which latents are chosen")
    score: float = Field(default=0.25, gt=0, lt=1, description="share that every reported number is of")
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of the assignment of the images")
    fold: int = Field(
        default=0,
        ge=0,
        le=1,
        description="1 exchanges the halves of a data set that has too few images for three parts: the first is scored",
    )
    groups: NamedGroups | None = Field(
        default=None, description="groups of images by name, {select: [...], score: [...]}, instead of shares"
    )

    @model_serializer(mode="wrap")
    def _what_counts(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = _shares_or_groups(serialise(self), self.groups)
        # At its default it is left out, so that keys and rows of versions without it stay.
        return {name: value for name, value in fields.items() if name != "fold" or self.fold}

    @model_validator(mode="after")
    def _whole(self) -> "SplitConfig":
        if self.groups is not None and self.model_fields_set - {"groups"}:
            raise ValueError("groups are named, so shares, a seed and a fold have no meaning: leave them out")
        total = self.train + self.select + self.score
        if abs(total - 1) > _TOLERANCE:
            raise ValueError(
                f"the shares of train, select and score sum to {total:g}: choose shares that sum to 1, such as"
                " .5/.25/.25"
            )
        return self

    @property
    def label(self) -> str:
        """The shares, and the seed unless it is 0: `0.5/0.25/0.25 seed 3`; or the groups: `select a, score b+c`."""
        if self.groups is not None:
            return f"select {'+'.join(self.groups.select)}, score {'+'.join(self.groups.score)}"
        return _shares_label((self.train, self.select, self.score), self.seed)

    @property
    def scored_half(self) -> str:
        """For people, which half of the images is scored where there are two."""
        return f"half {2 - self.fold} scored"


class ScoreSplit(FrozenModel):
    """How the images of a data set that selects and scores, but does not train, are divided.

    `of` makes it from the split of a request. Splits with the same shares of select and score relative to each other
    are the same.
    """

    select: float = Field(default=0.5, gt=0, lt=1, description="share of the images on which latents are chosen")
    score: float = Field(default=0.5, gt=0, lt=1, description="share that every reported number is of")
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of the assignment of the images")
    groups: NamedGroups | None = Field(default=None, description="groups that select and score, instead of shares")

    @classmethod
    def of(cls, split: SplitConfig) -> "ScoreSplit":
        """The shares of select and score, scaled so that they sum to 1; or the named groups."""
        if split.groups is not None:
            return cls(groups=split.groups)
        if split.fold:
            raise UserError(
                "a fold exchanges the halves of a data set that trains and is scored, and here another one trains:"
                " leave it out"
            )
        select, score = Fraction(split.select), Fraction(split.score)
        # .25 and .25 are the halves that .1 and .1 are, though not to the last bit.
        part = (select / (select + score)).limit_denominator(_DENOMINATOR)
        if not 0 < part < 1:
            raise UserError(
                f"the shares {split.select:g} and {split.score:g} of select and score are too far apart to divide a"
                " data set by them: choose shares of the same order"
            )
        return cls(select=float(part), score=float(1 - part), seed=split.seed)

    @model_serializer(mode="wrap")
    def _what_counts(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _shares_or_groups(serialise(self), self.groups)

    @property
    def label(self) -> str:
        """The shares of select and score, and the seed unless it is 0: `0.5/0.5 seed 3`; or the groups."""
        if self.groups is not None:
            return SplitConfig(groups=self.groups).label
        return _shares_label((self.select, self.score), self.seed)


def _shares_or_groups(fields: dict[str, Any], groups: NamedGroups | None) -> dict[str, Any]:
    """Shares or groups: what does not count is neither stored nor shown, nor part of a key."""
    return {name: value for name, value in fields.items() if (name == "groups") == (groups is not None)}


def _shares_label(shares: tuple[float, ...], seed: int) -> str:
    label = "/".join(f"{share:g}" for share in shares)
    return label if seed == 0 else f"{label} seed {seed}"


def parse_split(text: str) -> SplitConfig | None:
    """A split as a person writes it: three shares such as `.5/.25/.25`, or `none`, which gives None.

    Raises:
        UserError: it can be read as neither, or the shares cannot be.
    """
    if text.strip().lower() == NO_SPLIT:
        return None
    try:
        train, select, score = map(float, text.split("/"))
    except ValueError as error:
        raise UserError(
            f"{text!r} is no split: write three shares of train, select and score such as .5/.25/.25, or {NO_SPLIT}"
        ) from error
    try:
        return SplitConfig(train=train, select=select, score=score)
    except ValidationError as error:
        problem = one_line(error, lambda it: f"{it.place} {it.reason}".strip().replace("Value error, ", ""))
        raise UserError(f"{text!r} is no split: {problem}") from error


def stored_score_split(split: ScoreSplit, images: str) -> dict[str, Any]:
    """A split of a data set that does not train, as rows of the catalog store it.

    Its own level keeps it apart from a split of the data set that trains, of which one may ask by containment.

    Args:
        split: the split.
        images: fingerprint of the data set.
    """
    return {_SCORED: {"images": images} | split.model_dump(mode="json")}


def split_of(stored: Mapping[str, Any] | None) -> SplitConfig | ScoreSplit | None:
    """The config of a split as the catalog stores it, beside what became of it in the data set."""
    if stored is None:
        return None
    if _SCORED in stored:
        fields: Mapping[str, Any] = stored[_SCORED]
        return ScoreSplit(**{name: value for name, value in fields.items() if name in ScoreSplit.model_fields})
    return SplitConfig(**{name: value for name, value in stored.items() if name in SplitConfig.model_fields})


def split_label(stored: Mapping[str, Any] | None) -> str:
    """A stored split in a few words, for titles.

    `in-sample` where there is none, `0.5/0.5 of NAME` of another data set, `0.5/0.25/0.25 half 1 scored` of halves.
    """
    split = split_of(stored)
    if split is None or stored is None:
        return IN_SAMPLE
    if isinstance(split, ScoreSplit):
        return f"{split.label} of {stored[SCORE_DATASET]}"
    half = scored_half(stored)
    return split.label if half is None else f"{split.label} {half}"


def few_classes_note(n_classes: int, n_scored: int | None = None, half: str = "") -> str | None:
    """What a user should know of a data set with fewer than three classes, or scored ones; None for others.

    Args:
        n_classes: classes of the data set.
        n_scored: those of them with scored images; None: all.
        half: of the images that are scored, in words, if only one is.
    """
    n_scored = n_classes if n_scored is None else n_scored
    if n_scored >= _MIN_CLASSES:
        return None
    if n_classes < _MIN_CLASSES:
        found = "there is 1 class" if n_classes == 1 else f"there are {n_classes} classes"
    else:
        found = f"only {n_scored} of the {n_classes} classes {'has' if n_scored == 1 else 'have'} scored images{half}"
    return (
        f"{found}: scores of inner nodes and null distributions over the tree need {_MIN_CLASSES} and are undefined"
        " (NULL)"
    )


def scored_half(stored: Mapping[str, Any] | None) -> str | None:
    """For people, which half of the images is scored where a stored split has two: `half 1 scored`; else None."""
    split = split_of(stored)
    is_halved = isinstance(split, SplitConfig) and stored is not None and stored.get(HALVED)
    return split.scored_half if isinstance(split, SplitConfig) and is_halved else None
