"""The rules of the pointing game by hand."""

import numpy as np
import pytest
from benchmarks.relevancy.pointing_game import hit_of, interval
from benchmarks.relevancy.pointing_truth import Collage, Labelled, collages, pasted
from PIL import Image

LABELLED = Labelled(3, 1, "dog.n.01", 0.8, (0, 1), (2, 3, 4, 5, 6))


@pytest.mark.parametrize(("quarter", "row", "col"), [(0, 0, 1), (1, 1, 2), (2, 3, 0), (3, 2, 3)])
def test_a_peak_hits_the_quarter_that_it_lies_in_and_no_other(quarter, row, col):
    values = np.zeros((4, 4))
    values[row, col] = 1
    assert [hit_of(values, place) for place in range(4)] == [float(place == quarter) for place in range(4)]


def test_ties_share_and_the_middle_lies_in_no_quarter():
    assert [hit_of(np.zeros((4, 4)), place) for place in range(4)] == [0.25] * 4
    middle = np.zeros((3, 3))
    middle[1, 1] = 1
    assert [hit_of(middle, place) for place in range(4)] == [0.0] * 4


def test_intervals_draw_labels():
    same = interval(np.ones(6), np.array([0, 0, 1, 1, 2, 2]))
    assert same == {"mean": 1.0, "low": 1.0, "high": 1.0}
    # One label that decides alone: its images are no independent evidence.
    found = interval(np.array([1.0] * 50 + [0.0] * 50), np.array([0] * 50 + [1] * 50))
    assert (found["mean"], found["low"], found["high"]) == (0.5, 0.0, 1.0)


def test_collages_have_the_class_in_one_quarter_and_an_exchange_changes_one():
    found = collages([LABELLED], 8, seed=0)
    assert [one.quarter for one in found] == [0, 1, 2, 3] * 2
    for one in found:
        assert [image in LABELLED.inside for image in one.images] == [place == one.quarter for place in range(4)]
        exchanged = one.exchanged(one.quarter)
        assert set(exchanged.images) <= set(LABELLED.outside)
        assert [a == b for a, b in zip(one.images, exchanged.images, strict=True)].count(False) == 1


def test_a_collage_is_pasted_in_reading_order(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (5, 7), colour).save(path)
    whole = pasted(Collage(LABELLED, 0, (0, 1, 2, 3), (0, 0, 0, 0), 0), paths, 10)
    assert [whole.getpixel(at) for at in ((2, 2), (17, 2), (2, 17), (17, 17))] == colours
