"""Divides the images of a data set into parts: which train, which select, and which score."""

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int8

from hsae.datasets.group_split import assign_groups
from hsae.datasets.listed_images import ListedImages
from hsae.errors import UserError
from hsae.split_config import NO_SPLIT, NamedGroups, ScoreSplit, SplitConfig, few_classes_note

TRAIN, SELECT, SCORE, UNUSED = 0, 1, 2, 3
_HALVES = (Fraction(1, 2), Fraction(1, 2))
_DENOMINATOR = 10_000  # of shares: as exact as people write them, so that ties are ties


@dataclass(frozen=True, slots=True, eq=False)
class ImageSplit:
    """The part of every image of a listing.

    Attributes:
        part: int8[n_images], `TRAIN`, `SELECT` or `SCORE`. Where `is_halved`, there is no `SELECT`. Where another data
            set trains, there is no `TRAIN`, and `UNUSED` are images of groups that neither select nor score.
        is_halved: there were too few images for three parts: the images of `TRAIN` also select.
        by: what was assigned as a whole.
        n_classes: classes of the data set.
        n_single: classes of a single image.
        n_unscored: classes of which no image is in `SCORE`.
        n_unselected: where another data set trains, classes of which no image is in `SELECT`; else 0.
        trains: whether the data set trains; False: another one does.
        fold: of halves, which one trains: 0 the first, 1 the second.
    """

    part: Int8[np.ndarray, "n_images"]
    is_halved: bool
    by: Literal["images", "groups"]
    n_classes: int
    n_single: int
    n_unscored: int
    n_unselected: int = 0
    trains: bool = True
    fold: int = 0

    @property
    def train(self) -> Bool[np.ndarray, "n_images"]:
        """Whether an image trains."""
        return np.asarray(self.part == TRAIN)

    @property
    def select(self) -> Bool[np.ndarray, "n_images"]:
        """Whether latents are chosen on an image."""
        return self.train if self.is_halved else np.asarray(self.part == SELECT)

    @property
    def score(self) -> Bool[np.ndarray, "n_images"]:
        """Whether an image is scored."""
        return np.asarray(self.part == SCORE)

    def notes(self, *, cross_fitted: bool = False) -> tuple[str, ...]:
        """What a user should know of this split, a sentence each; empty if there is nothing.

        Args:
            cross_fitted: whether halves are used in both ways.
        """
        found = []
        if self.is_halved:
            one, other = ("first", "second") if self.fold == 0 else ("second", "first")
            use = f"the {one} trains and selects, the {other} scores"
            if cross_fitted:
                use = (
                    "cross-fitting: each trains and selects while the other scores, which takes twice the trainings and"
                    " analyses, and `results study` has the mean of both"
                )
            found.append(
                f"more than half of the {self.n_classes} classes would have no image in one of three parts, so the"
                f" {self.by} are split in two halves: {use}"
            )
        if self.n_single:
            found.append(f"{_classes(self.n_single)} a single image, which {self._single_image()}")
        if self.n_unselected:
            found.append(f"{_classes(self.n_unselected)} no image to select on: no latent is chosen for it")
        half, there = (" in the second half", " there") if cross_fitted else ("", "")
        if self.n_unscored:
            found.append(
                f"{_classes(self.n_unscored)} no scored image{half}: what needs one is undefined (NULL){there}"
            )
        few = few_classes_note(self.n_classes, self.n_classes - self.n_unscored, half)
        return tuple(found) if few is None else (*found, few)

    def _single_image(self) -> str:
        """What the only image of a class does, and what its class lacks."""
        lacks = "unless it scores, the scores of its class are undefined (NULL)"
        chosen = "unless it selects, no latent is chosen for the class"
        if not self.trains:
            return f"selects or scores: {lacks}; {chosen}"
        if self.is_halved:
            return f"trains or scores: {lacks}; unless it trains, no latent is chosen for the class, no probe names it"
        return f"trains, selects or scores: {lacks}; {chosen}; unless it trains, no probe names it"


def split_images(listing: pa.Table, config: SplitConfig) -> ImageSplit:
    """Assign every image of a data set to a part, as a function of the listing and the config alone.

    The rules are this project's. Without groups, images of the same set of classes are assigned apart from all others:
    in an order drawn from PCG64, seeded with the config's seed and the classes' ids, and as many to each part as
    `part_sizes` says. With groups, whole groups are assigned (`assign_groups`); an image without one is a group of its
    own. If more than half of the classes have no image in one of the three parts, the same is done with two halves,
    of which the first trains and selects; fold 1 of the config exchanges them. Where the config names groups, these
    select and score, and all others train.

    Args:
        listing: one row per image (`LISTING_SCHEMA` or `MULTI_LABEL_LISTING_SCHEMA`, with or without groups).
        config: the shares and the seed.

    Raises:
        UserError: all images are of one group, or so few that none is left to train on or to score; or there are enough
            images for three parts, and a fold is asked for.
    """
    images = ListedImages(listing)
    if config.groups is None:
        part = _assign(images, _shares(config), config.seed)
        is_halved = 2 * int(_lacking(images, part, 3).any(axis=1).sum()) > images.n_classes
    else:
        part, is_halved = _assign_named(images, config.groups), False
    if is_halved:
        part = np.where(_assign(images, _HALVES, config.seed) == config.fold, TRAIN, SCORE).astype(np.int8)
    elif config.fold:
        raise UserError(
            f"fold {config.fold} exchanges the halves of a data set with too few images for three parts, and this one"
            " has enough: leave the fold out"
        )
    for number, use in ((TRAIN, "train on"), (SCORE, "score")):
        if not (part == number).any():
            raise UserError(
                f"a split of {images.n_images} images leaves none to {use}: give more images or submit with --split"
                f" {NO_SPLIT}"
            )
    return replace(_described(images, part, is_halved=is_halved, trains=True), fold=config.fold)


def split_scored_images(listing: pa.Table, config: ScoreSplit) -> ImageSplit:
    """Assign every image of a data set that does not train to select or to score, by the rules of `split_images`.

    There are two parts from the start, so nothing is halved. Where the config names groups, images of other groups are
    not used.

    Args:
        listing: as for `split_images`.
        config: the shares and the seed.

    Raises:
        UserError: all images are of one group, or no image is left to select or to score on.
    """
    images = ListedImages(listing)
    groups = set(images.groups or ())
    if config.groups is None and len(groups) == 1 and None not in groups:
        raise UserError(
            f"all images are of the group {groups.pop()}, and a group is not divided, so none is left to score: give"
            " the images several groups, or register them without the column group"
        )
    if config.groups is None:
        select = Fraction(config.select).limit_denominator(_DENOMINATOR)
        part = np.where(_assign(images, (select, 1 - select), config.seed) == 0, SELECT, SCORE).astype(np.int8)
    else:
        named = _assign_named(images, config.groups)
        part = np.where(named == TRAIN, UNUSED, named).astype(np.int8)
    for number, use in ((SELECT, "select on"), (SCORE, "score")):
        if not (part == number).any():
            raise UserError(
                f"a split of {images.n_images} images, where others train, leaves none to {use}: give more images"
            )
    return _described(images, part, is_halved=False, trains=False)


def _described(
    images: ListedImages, part: Int8[np.ndarray, "n_images"], *, is_halved: bool, trains: bool
) -> ImageSplit:
    lacking = _lacking(images, part, UNUSED + 1)
    return ImageSplit(
        part,
        is_halved,
        "images" if images.groups is None else "groups",
        images.n_classes,
        n_single=int((np.bincount(images.class_of, minlength=images.n_classes) == 1).sum()),
        n_unscored=int(lacking[:, SCORE].sum()),
        n_unselected=0 if trains else int(lacking[:, SELECT].sum()),
        trains=trains,
    )


def part_sizes(n: int, weights: Sequence[int], draw: int, order: Sequence[int]) -> list[int]:
    """How many of `n` images go to each part: the share of `n`, rounded down or up.

    Images that rounding down leaves over go to the largest remainders, if every part then has an image. Else they are
    drawn so that each part expects its exact share (systematic sampling): of many classes with one image, the parts get
    their shares.

    Args:
        n: number of images.
        weights: of the parts, whole numbers; their shares are these over the sum.
        draw: uniform in 0..2**64 - 1.
        order: the parts, in the order in which equal remainders are served.
    """
    whole = sum(weights)
    sizes, rests = map(list, zip(*(divmod(n * weight, whole) for weight in weights), strict=True))
    n_left = n - sum(sizes)
    largest = sorted(order, key=lambda part: -rests[part])[:n_left]
    if all(size or part in largest for part, size in enumerate(sizes)):
        chosen = largest
    else:
        ends = list(itertools.accumulate(rests))
        points = ((draw + (k << 64)) * whole for k in range(n_left))
        chosen = [next(part for part, end in enumerate(ends) if point < end << 64) for point in points]
    for part in chosen:
        sizes[part] += 1
    return sizes


def _assign(images: ListedImages, shares: Sequence[Fraction], seed: int) -> Int8[np.ndarray, "n_images"]:
    """The part of every image, counted from 0."""
    if images.groups is not None:
        return _assign_by_group(images, images.groups, shares, seed)
    whole = math.lcm(*(share.denominator for share in shares))
    weights = [int(share * whole) for share in shares]
    part = np.empty(images.n_images, np.int8)
    order = np.argsort(images.stratum, kind="stable")
    ends = np.cumsum(np.bincount(images.stratum, minlength=len(images.names)))
    for names, members in zip(images.names, np.split(order, ends[:-1]), strict=True):
        numbers = _generator(seed, *names).random_raw(len(members) + 1 + len(shares))
        shuffled = members[np.argsort(numbers[: len(members)], kind="stable")]
        draw = int(numbers[len(members)])
        ties = np.argsort(numbers[len(members) + 1 :], kind="stable").tolist()
        part[shuffled] = np.repeat(np.arange(len(shares)), part_sizes(len(members), weights, draw, ties))
    return part


def _assign_by_group(
    images: ListedImages, groups: Sequence[str | None], shares: Sequence[Fraction], seed: int
) -> Int8[np.ndarray, "n_images"]:
    named = sorted({group for group in groups if group is not None})
    number_of: dict[str | None, int] = {group: number for number, group in enumerate(named)}
    group_of = np.array([number_of.get(group, -1) for group in groups], np.int64)
    alone = np.flatnonzero(group_of < 0)
    group_of[alone] = len(named) + np.arange(len(alone))
    n_groups = len(named) + len(alone)
    if n_groups == 1:
        raise UserError(
            f"all images are of the group {named[0]}, and a group is not divided, so no image is left to score: give"
            f" the images several groups, register them without the column group, or submit with --split {NO_SPLIT}"
        )
    order = np.argsort(_generator(seed, "groups").random_raw(n_groups), kind="stable")
    shuffled = np.empty(n_groups, np.int64)
    shuffled[order] = np.arange(n_groups)
    whole = np.bincount(shuffled[group_of], minlength=n_groups)
    pairs = shuffled[group_of[images.image_of]] * images.n_classes + images.class_of
    keys, counts = np.unique(pairs, return_counts=True)
    part = assign_groups(whole, keys // images.n_classes, keys % images.n_classes, counts, shares)
    return part[shuffled[group_of]]


def _assign_named(images: ListedImages, named: NamedGroups) -> Int8[np.ndarray, "n_images"]:
    """The part of every image where groups are named."""
    there = {group for group in images.groups or () if group is not None}
    unknown = sorted({*named.select, *named.score} - there)
    if unknown:
        known = f"its groups are {', '.join(sorted(there))}" if there else "none of its images has a group"
        raise UserError(f"the split names groups that the data set lacks ({', '.join(unknown)}): {known}")
    part_of = dict.fromkeys(named.select, SELECT) | dict.fromkeys(named.score, SCORE)
    return np.array([TRAIN if group is None else part_of.get(group, TRAIN) for group in images.groups or ()], np.int8)


def _lacking(
    images: ListedImages, part: Int8[np.ndarray, "n_images"], n_parts: int
) -> Bool[np.ndarray, "n_classes parts"]:
    """Whether a class has no image in a part."""
    pairs = images.class_of * n_parts + part[images.image_of]
    return np.asarray(np.bincount(pairs, minlength=images.n_classes * n_parts).reshape(-1, n_parts) == 0)


def _shares(config: SplitConfig) -> tuple[Fraction, ...]:
    train, select = (Fraction(share).limit_denominator(_DENOMINATOR) for share in (config.train, config.select))
    return train, select, 1 - train - select


def _generator(seed: int, *names: str) -> np.random.PCG64:
    """Raw numbers (which no version of NumPy changes) for a seed and names."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.PCG64(np.random.SeedSequence([seed, *np.frombuffer(digest, "<u4").tolist()]))


def _classes(n: int) -> str:
    return "1 class has" if n == 1 else f"{n} classes have"
