"""The parts of a data set that is scored where another one trains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.datasets.class_sets import class_sets, listing_of
from tests.examples import examples

from hsae.datasets.split import SCORE, SELECT, UNUSED, split_scored_images
from hsae.errors import UserError
from hsae.split_config import (
    NamedGroups,
    ScoreSplit,
    SplitConfig,
    split_label,
    split_of,
    stored_score_split,
)

SCORED = st.sampled_from([SplitConfig(), SplitConfig(seed=7), SplitConfig(train=0.7, select=0.1, score=0.2)])


@examples(60)
@given(class_sets, SCORED)
def test_a_data_set_that_does_not_train_selects_and_scores_only(sets, config):
    try:
        split = split_scored_images(listing_of(sets), ScoreSplit.of(config))
    except UserError as error:
        assert "where others train, leaves none to" in str(error)  # noqa: PT017 -- a few images of a set each
        return
    assert not split.train.any()
    assert not split.is_halved
    assert (split.select ^ split.score).all()
    share = config.select / (config.select + config.score)
    for ids in set(sets):
        members = [image for image, other in enumerate(sets) if other == ids]
        assert abs(split.select[members].sum() - share * len(members)) < 1
    classes = {name for ids in sets for name in ids}
    selected = {name for ids, part in zip(sets, split.part, strict=True) if part == SELECT for name in ids}
    assert split.n_unselected == len(classes - selected)


def test_only_select_relative_to_score_counts_where_another_data_set_trains():
    """Shares that mean the same division are one key, however they are rounded."""
    halves = [(0.5, 0.25, 0.25), (0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.34, 0.33, 0.33)]
    thirds = [(0.7, 0.1, 0.2), (0.4, 0.2, 0.4), (0.1, 0.3, 0.6)]
    for shares, select in ((halves, 0.5), (thirds, 1 / 3)):
        found = {ScoreSplit.of(SplitConfig(train=train, select=chosen, score=score)) for train, chosen, score in shares}
        assert [split.select for split in found] == [select]
    assert ScoreSplit.of(SplitConfig(seed=3)).seed == 3
    few = ScoreSplit.of(SplitConfig(train=0.9999, select=0.00004, score=0.00006))
    assert (few.select, few.score) == (0.4, 0.6)


@pytest.mark.parametrize("shares", [(0.5, 0.499999, 0.000001), (0.5, 0.000001, 0.499999)])
def test_shares_too_far_apart_to_divide_a_data_set_are_refused(shares):
    train, select, score = shares
    with pytest.raises(UserError, match="of select and score are too far apart .*: choose shares") as refused:
        ScoreSplit.of(SplitConfig(train=train, select=select, score=score))
    assert f"{select:g} and {score:g}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_groups_that_are_not_named_are_not_used_where_another_data_set_trains():
    listing = listing_of([("a",), ("a",), ("b",), ("b",)], ["x", "y", "z", None])
    config = ScoreSplit.of(SplitConfig(groups=NamedGroups(select=("x",), score=("z",))))
    assert split_scored_images(listing, config).part.tolist() == [SELECT, UNUSED, SCORE, UNUSED]
    with pytest.raises(UserError, match="names groups that the data set lacks"):
        split_scored_images(listing_of([("a",), ("b",)]), config)


def test_one_group_cannot_select_and_score():
    with pytest.raises(UserError, match="all images are of the group x, and a group is not divided") as caught:
        split_scored_images(listing_of([("a",), ("b",)], ["x", "x"]), ScoreSplit())
    assert "--split none" not in str(caught.value)
    with pytest.raises(UserError, match="leaves none to"):
        split_scored_images(listing_of([("a",)]), ScoreSplit())


@pytest.mark.parametrize(
    ("split", "label"),
    [
        (SplitConfig(), "0.5/0.5 of val"),
        (SplitConfig(train=0.7, select=0.1, score=0.2, seed=3), "0.333333/0.666667 seed 3 of val"),
        (SplitConfig(groups=NamedGroups(select=("x",), score=("y", "z"))), "select x, score y+z of val"),
    ],
)
def test_a_stored_split_of_another_data_set(split, label):
    config = ScoreSplit.of(split)
    stored = stored_score_split(config, "f" * 64)
    assert split_of(stored | {"score_dataset": "val", "by": "images", "is_halved": False}) == config
    assert split_label(stored | {"score_dataset": "val"}) == label
