"""Shuffled labels and trees."""

import numpy as np

from hsae.hierarchy.controls.shuffles import class_places, shuffle_labels, shuffle_taxonomy


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


def test_classes_without_scored_images_stay_where_they_are():
    """Every node then keeps its number of classes with images, whatever the permutation."""
    labels, scored = np.array([0, 1, 2, 3, 4, 5, 6]), np.array([1, 3, 4, 6])
    moved = shuffle_taxonomy(labels, 9, 5, scored=scored)
    np.testing.assert_array_equal(moved[[0, 2, 5]], [0, 2, 5])
    assert sorted(moved[scored]) == [1, 3, 4, 6]
    assert (moved[scored] != scored).any()
    everything = np.random.Generator(np.random.PCG64(5)).permutation(9)
    np.testing.assert_array_equal(class_places(np.ones(9, bool), 5), everything)
