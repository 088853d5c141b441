"""The parts of a data set, against a slow reference."""

import itertools
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.datasets.class_sets import class_sets, listing_of
from tests.examples import examples

from hsae.datasets.split import SCORE, SELECT, TRAIN, part_sizes, split_images
from hsae.errors import UserError
from hsae.split_config import (
    SplitConfig,
    parse_split,
    split_label,
)

CONFIGS = st.sampled_from(
    [
        SplitConfig(),
        SplitConfig(seed=7),
        SplitConfig(train=0.8, select=0.1, score=0.1),
        SplitConfig(train=0.2, select=0.3, score=0.5),
    ]
)


def single(*counts):
    """A listing whose classes have so many images each, mixed."""
    sets = [(f"c{c:03}",) for c, n in enumerate(counts) for _ in range(n)]
    return [sets[i] for i in np.random.default_rng(0).permutation(len(sets))]


def shares_of(config):
    train, select = Fraction(str(config.train)), Fraction(str(config.select))
    return train, select, 1 - train - select


@examples(60)
@given(class_sets, CONFIGS)
def test_parts_are_disjoint_complete_and_stratified_within_rounding(sets, config):
    try:
        split = split_images(listing_of(sets), config)
    except UserError as error:
        assert "leaves none" in str(error)  # noqa: PT017
        return
    assert (split.train | split.select | split.score).all()
    assert not (split.train & split.score).any()
    assert not (split.select & split.score).any()
    shares = (Fraction(1, 2), 0, Fraction(1, 2)) if split.is_halved else shares_of(config)
    assert (split.select == split.train).all() if split.is_halved else not (split.train & split.select).any()
    for stratum in set(sets):
        members = [i for i, ids in enumerate(sets) if ids == stratum]
        found = Counter(split.part[members].tolist())
        for part, share in zip((TRAIN, SELECT, SCORE), shares, strict=True):
            assert abs(found[part] - share * len(members)) < 1
    classes = {name for ids in sets for name in ids}
    scored = {name for i in np.flatnonzero(split.score) for name in sets[i]}
    assert split.n_unscored == len(classes - scored)
    assert split.n_classes == len(classes)
    assert split.n_single == sum(1 for n in Counter(name for ids in sets for name in ids).values() if n == 1)


@examples(40)
@given(st.lists(st.integers(4, 30), min_size=2, max_size=6), CONFIGS.filter(lambda config: config.train == 0.5))
def test_a_class_is_unaffected_by_other_classes(counts, config):
    alone = {}
    for c, n in enumerate(counts):
        sets = [(f"c{c:03}",)] * n + [("other",)] * 5
        alone[c] = split_images(listing_of(sets), config).part[:n]
    together = [(f"c{c:03}",) for c, n in enumerate(counts) for _ in range(n)]
    part = split_images(listing_of(together), config).part
    start = 0
    for c, n in enumerate(counts):
        assert (part[start : start + n] == alone[c]).all()
        start += n


def test_reproducible_and_a_matter_of_the_seed():
    sets = single(40, 25, 8, 9)
    parts = [split_images(listing_of(sets), SplitConfig(seed=seed)).part for seed in (0, 0, 1)]
    assert (parts[0] == parts[1]).all()
    assert (parts[0] != parts[2]).any()


def test_the_same_in_every_process():
    code = (
        "import pyarrow as pa; from hsae.datasets.split import SplitConfig, split_images\n"
        "names = ['a'] * 9 + ['b'] * 7 + ['c'] * 4\n"
        "print(''.join(map(str, split_images(pa.table({'class_id': names}), SplitConfig()).part)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert run.stdout == "00002112010220011020\n"


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (7, (3, 2, 2)), (8, (4, 2, 2)), (1300, (650, 325, 325))],
)
def test_classes_of_three_or_more_images_have_one_in_every_part(n, sizes):
    sets = single(n, 4, 4, 4)
    members = [i for i, ids in enumerate(sets) if ids == ("c000",)]
    found = Counter(split_images(listing_of(sets), SplitConfig()).part[members].tolist())
    assert tuple(found[part] for part in (TRAIN, SELECT, SCORE)) == sizes


def weights_of(config):
    return [int(share * 100) for share in shares_of(config)]


@given(st.integers(1, 40), st.integers(0, 2**64 - 1), st.permutations(range(3)), CONFIGS)
def test_part_sizes(n, draw, order, config):
    shares = shares_of(config)
    sizes = part_sizes(n, weights_of(config), draw, order)
    assert sum(sizes) == n
    assert all(abs(size - n * share) < 1 for size, share in zip(sizes, shares, strict=True))
    reachable = [
        found for found in itertools.product(*({int(n * s), -int(-n * s // 1)} for s in shares)) if sum(found) == n
    ]
    assert tuple(sizes) in reachable


def test_single_images_get_their_shares_on_average():
    draws = [k * 2**64 // 400 for k in range(400)]
    totals = np.sum([part_sizes(1, weights_of(SplitConfig()), draw, (0, 1, 2)) for draw in draws], axis=0)
    assert totals.tolist() == [200, 100, 100]


def test_too_few_images_for_three_parts_are_halved():
    split = split_images(listing_of(single(*[2] * 30)), SplitConfig())
    assert split.is_halved
    assert (split.select == split.train).all()
    assert split.train.sum() == split.score.sum() == 30
    assert "two halves" in split.notes()[0]
    # Half of the classes may lack a part.
    assert not split_images(listing_of(single(*[2] * 15, *[4] * 15)), SplitConfig()).is_halved


def test_one_image_per_class():
    split = split_images(listing_of(single(*[1] * 200)), SplitConfig())
    assert split.is_halved
    assert 70 <= split.score.sum() <= 130
    assert split.n_single == 200
    assert split.n_unscored == 200 - split.score.sum()
    assert split.notes()[1:] == (
        "200 classes have a single image, which trains or scores: unless it scores, the scores of its class are"
        " undefined (NULL); unless it trains, no latent is chosen for the class, no probe names it",
        f"{split.n_unscored} classes have no scored image: what needs one is undefined (NULL)",
    )


def test_fewer_than_three_classes_are_said():
    (note,) = split_images(listing_of(single(8, 8)), SplitConfig()).notes()
    assert note.startswith("there are 2 classes: scores of inner nodes ")
    (note,) = split_images(listing_of(single(8)), SplitConfig()).notes()
    assert note.startswith("there is 1 class: scores of inner nodes ")


def test_a_single_image_beside_classes_of_many():
    split = split_images(listing_of(single(8, 8, 8, 8, 1)), SplitConfig())
    assert split.notes()[0] == (
        "1 class has a single image, which trains, selects or scores: unless it scores, the scores of its class are"
        " undefined (NULL); unless it selects, no latent is chosen for the class; unless it trains, no probe names it"
    )


def cost_of(assignment, members, shares):
    """The sum that is minimised, by definition. members: (group, classes) of every image."""
    classes = {name for _, ids in members for name in ids}
    cost = Fraction(0)
    for part, share in enumerate(shares):
        inside = [ids for group, ids in members if assignment[group] == part]
        cost += (len(inside) - share * len(members)) ** 2
        for name in classes:
            n = sum(name in ids for _, ids in members)
            cost += (sum(name in ids for ids in inside) - share * n) ** 2
    return cost


@examples(40)
@given(st.lists(st.tuples(st.sampled_from("uvwxy"), st.sets(st.sampled_from("abc"), min_size=1).map(sorted).map(tuple)),
                min_size=6, max_size=30), st.integers(0, 3))  # fmt: skip
def test_whole_groups_come_as_close_as_possible(members, seed):
    groups = sorted({group for group, _ in members})
    listing = listing_of([ids for _, ids in members], [group for group, _ in members])
    if len(groups) == 1:
        with pytest.raises(UserError, match=f"all images are of the group {groups[0]}"):
            split_images(listing, SplitConfig(seed=seed))
        return
    split = split_images(listing, SplitConfig(seed=seed))
    assert split.by == "groups"
    found = {group: set() for group in groups}
    for (group, _), part in zip(members, split.part.tolist(), strict=True):
        found[group].add(part)
    assert all(len(parts) == 1 for parts in found.values())
    shares = (Fraction(1, 2), Fraction(1, 2)) if split.is_halved else shares_of(SplitConfig())
    assignment = {group: min(1, part) if split.is_halved else part for group, (part,) in found.items()}
    all_parts = itertools.product(range(len(shares)), repeat=len(groups))
    tried = [dict(zip(groups, parts, strict=True)) for parts in all_parts]
    if len(groups) >= len(shares):
        tried = [one for one in tried if len(set(one.values())) == len(shares)]
    assert cost_of(assignment, members, shares) == min(cost_of(one, members, shares) for one in tried)


def test_five_styles_are_split_three_to_one_to_one():
    styles = {"flat": 402, "colour": 402, "3d": 401, "noto": 402, "fx": 183}
    sets = [(f"c{i % 90:02}",) for n in styles.values() for i in range(n)]
    split = split_images(listing_of(sets, [name for name, n in styles.items() for _ in range(n)]), SplitConfig())
    assert not split.is_halved
    assert sorted([split.train.sum(), split.select.sum(), split.score.sum()]) == [402, 402, 986]
    assert split.train.sum() == 986


def test_many_groups_are_stratified_too():
    rng = np.random.default_rng(3)
    subjects = [(f"s{i}", f"c{i % 20:02}", int(rng.integers(5, 30))) for i in range(300)]
    groups = [name for name, _, n in subjects for _ in range(n)]
    sets = [(class_id,) for _, class_id, n in subjects for _ in range(n)]
    split = split_images(listing_of(sets, groups), SplitConfig())
    assert len({(group, part) for group, part in zip(groups, split.part.tolist(), strict=True)}) == 300
    assert np.abs(np.bincount(split.part) / len(sets) - (0.5, 0.25, 0.25)).max() < 0.002
    for class_id in {ids[0] for ids in sets}:
        of_class = split.part[[ids == (class_id,) for ids in sets]]
        assert np.abs(np.bincount(of_class, minlength=3) / len(of_class) - (0.5, 0.25, 0.25)).max() < 0.06


def test_images_without_a_group_stand_alone():
    sets = single(*[12] * 4)
    groups = [None] * 40 + ["pair"] * 8
    split = split_images(listing_of(sets, groups), SplitConfig())
    assert len(set(split.part[40:].tolist())) == 1
    assert np.bincount(split.part).tolist() == [24, 12, 12]
    without = [split_images(listing_of(sets, given), SplitConfig()).part for given in ([None] * 48, None)]
    assert (without[0] == without[1]).all()


def test_so_few_images_that_none_is_left():
    refused = 0
    for seed in range(20):
        try:
            split_images(listing_of([("a",), ("b",)]), SplitConfig(seed=seed))
        except UserError as error:
            assert "a split of 2 images leaves none to" in str(error)  # noqa: PT017
            refused += 1
    assert 0 < refused < 20


@pytest.mark.parametrize(
    ("text", "label"),
    [("none", "in-sample"), ("NONE", "in-sample"), (".5/.25/.25", "0.5/0.25/0.25"), ("0.6/.2/0.2", "0.6/0.2/0.2")],
)
def test_a_split_as_people_write_it(text, label):
    split = parse_split(text)
    assert split_label(None if split is None else split.model_dump()) == label


@pytest.mark.parametrize("text", ["", "half", ".5/.5", ".5/.25/.25/0", "a/b/c"])
def test_what_is_no_split(text):
    with pytest.raises(UserError, match="is no split: write three shares"):
        parse_split(text)


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (1, 0, 0), (0.5, 0.5, 0), (-0.5, 1, 0.5), (0.5, 0.2, 0.2)])
def test_shares_that_cannot_be(shares):
    with pytest.raises(ValidationError):
        SplitConfig(train=shares[0], select=shares[1], score=shares[2])
