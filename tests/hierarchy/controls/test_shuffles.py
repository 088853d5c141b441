"""Shuffled labels and trees."""

import numpy as np

from hsae.hierarchy.controls.shuffles import shuffle_labels, shuffle_taxonomy


def test_shuffles_keep_what_they_promise():
    labels = np.random.default_rng(0).integers(0, 9, 200)
    shuffled = shuffle_labels(labels, 1)
    assert sorted(shuffled) == sorted(labels)
    assert (shuffled != labels).any()
    np.testing.assert_array_equal(shuffled, shuffle_labels(labels, 1))
    assert (shuffled != shuffle_labels(labels, 2)).any()

    moved = shuffle_taxonomy(labels, 9, 1)
    places = {(int(old), int(new)) for old, new in zip(labels, moved, strict=True)}
    assert len(places) == len({old for old, _ in places}) == len({new for _, new in places}) == 9
    assert (moved != labels).any()
    np.testing.assert_array_equal(moved, shuffle_taxonomy(labels, 9, 1))
