"""Groups that a split names select and score; all other images train."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from tests.datasets.class_sets import listing_of

from hsae.datasets.split import SCORE, SELECT, TRAIN, split_images
from hsae.errors import UserError
from hsae.pipeline.kinds.artifact import split_content
from hsae.split_config import NamedGroups, SplitConfig

STYLES = ["noto", "flat", "flat", "fx", None, "noto"]


def listing(groups=STYLES):
    return pa.table({"class_id": ["a", "a", "b", "b", "c", "c"], "group": pa.array(groups, pa.string())})


def config(select=("noto",), score=("fx",)):
    return SplitConfig(groups=NamedGroups(select=select, score=score))


def test_named_groups_select_and_score_and_the_others_train():
    split = split_images(listing(), config())
    np.testing.assert_array_equal(split.part, [SELECT, TRAIN, TRAIN, SCORE, TRAIN, SELECT])
    assert not split.is_halved
    assert split.n_unscored == 2


@pytest.mark.parametrize(
    ("groups", "message"),
    [(STYLES, r"lacks \(oil\): its groups are flat, fx, noto"), ([None] * 6, r"lacks \(fx, oil\): none of its images")],
)
def test_unknown_groups_are_refused(groups, message):
    with pytest.raises(UserError, match=message):
        split_images(listing(groups), config(select=("oil",)))


def test_all_images_in_named_groups_leave_none_to_train_on():
    with pytest.raises(UserError, match="none to train on"):
        split_images(listing(["noto", "noto", "fx", "fx", "fx", "noto"]), config())


def test_a_group_in_two_parts_and_an_empty_part_are_refused():
    with pytest.raises(ValidationError, match="fx are to select and to score"):
        config(select=("fx", "noto"))
    with pytest.raises(ValidationError):
        config(score=())


def test_the_order_of_names_does_not_count_and_shares_alone_have_the_key_that_they_had():
    assert config(select=("b", "a")) == config(select=("a", "b", "a"))
    assert "groups" not in split_content(SplitConfig())["split"]
    assert split_content(config()) == {"split": {"groups": {"select": ["noto"], "score": ["fx"]}}}
    assert SplitConfig.model_validate(config().model_dump(mode="json")) == config()


def test_shares_beside_groups_are_refused():
    with pytest.raises(ValidationError, match="shares, a seed and a fold have no meaning"):
        SplitConfig(train=0.5, groups=NamedGroups(select=("noto",), score=("fx",)))


@pytest.mark.parametrize(
    ("styles", "said"),
    [
        ((("c0", "c1"), ("c0", "c1", "c2"), ("c0", "c1")), "only 2 of the 3 classes have scored images"),
        ((("c0", "c1"), ("c0", "c1", "c2"), ("c2",)), "only 1 of the 3 classes has scored images"),
        ((("c0", "c1"), ("c0", "c1", "c2"), ("c0", "c1", "c2")), None),
    ],
)
def test_fewer_than_three_classes_with_scored_images_are_said(styles, said):
    """Drawing styles that train, select and score, each with a drawing of some classes."""
    images = [((name,), style) for style, names in enumerate(styles) for name in names]
    images_of = listing_of([names for names, _ in images], [f"s{style}" for _, style in images])
    split = split_images(images_of, config(select=("s1",), score=("s2",)))
    notes = [note for note in split.notes() if "inner nodes" in note]
    if said is None:
        assert notes == []
        return
    assert notes == [
        f"{said}: scores of inner nodes and null distributions over the tree need 3 and are undefined (NULL)"
    ]
