"""Halves of images that are too few for three parts, and the fold that exchanges them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.datasets.class_sets import class_sets, listing_of
from tests.examples import examples

from hsae.datasets.split import split_images
from hsae.errors import UserError
from hsae.split_config import ScoreSplit, SplitConfig, split_label, split_of


@examples(40)
@given(class_sets, st.sampled_from([SplitConfig(), SplitConfig(seed=7)]), st.booleans())
def test_fold_1_exchanges_the_halves_so_that_every_image_is_scored_once(sets, config, is_grouped):
    listing = listing_of(sets, [f"g{i % 4}" for i in range(len(sets))] if is_grouped else None)
    other = config.model_copy(update={"fold": 1})
    try:
        first = split_images(listing, config)
    except UserError:
        with pytest.raises(UserError):
            split_images(listing, other)
        return
    if not first.is_halved:
        with pytest.raises(UserError, match="fold 1 exchanges the halves of a data set with too few images"):
            split_images(listing, other)
        return
    second = split_images(listing, other)
    assert second.is_halved
    assert (second.train == first.score).all()
    assert (second.score == first.train).all()
    assert (first.score ^ second.score).all()


def test_what_is_said_of_halves():
    listing = listing_of([(f"c{c:02}",) for c in range(30) for _ in range(2)])
    first, second = (split_images(listing, SplitConfig(fold=fold)) for fold in (0, 1))
    assert first.notes()[0].endswith("two halves: the first trains and selects, the second scores")
    assert second.notes()[0].endswith("two halves: the second trains and selects, the first scores")
    (note,) = first.notes(cross_fitted=True)
    assert "two halves: cross-fitting: each trains and selects while the other scores" in note
    assert "`results study` has the mean of both" in note
    few = split_images(listing_of([(f"c{c:03}",) for c in range(200)]), SplitConfig()).notes(cross_fitted=True)
    assert few[2].endswith("no scored image in the second half: what needs one is undefined (NULL) there")


def test_a_fold_is_stored_only_where_it_is_not_the_default():
    assert "fold" not in SplitConfig(fold=0).model_dump()
    assert SplitConfig(fold=1).model_dump()["fold"] == 1
    assert SplitConfig.model_validate(SplitConfig(fold=1).model_dump()) == SplitConfig(fold=1)
    with pytest.raises(ValidationError, match="a fold have no meaning"):
        SplitConfig.model_validate({"groups": {"select": ["a"], "score": ["b"]}, "fold": 1})
    with pytest.raises(UserError, match="a fold exchanges the halves"):
        ScoreSplit.of(SplitConfig(fold=1))
    stored = SplitConfig(fold=1).model_dump() | {"by": "images", "is_halved": True}
    assert split_of(stored) == SplitConfig(fold=1)
    assert split_label(stored) == "0.5/0.25/0.25 half 1 scored"
    assert split_label(SplitConfig().model_dump() | {"is_halved": True}) == "0.5/0.25/0.25 half 2 scored"
    assert split_label(SplitConfig().model_dump() | {"is_halved": False}) == "0.5/0.25/0.25"
