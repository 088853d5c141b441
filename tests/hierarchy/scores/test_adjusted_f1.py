import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hsae.hierarchy.scores.adjusted_f1 import adjusted_f1, node_adjusted_f1


@given(n_images=st.integers(2, 10**7), data=st.data())
def test_always_firing_gets_0_and_a_perfect_detector_1(n_images, data):
    n_node = np.array([data.draw(st.integers(1, n_images - 1))])
    always = 2 * n_node / (n_images + n_node)
    np.testing.assert_allclose(adjusted_f1(always, n_node, n_images), 0, atol=1e-9)
    np.testing.assert_array_equal(adjusted_f1(np.ones(1), n_node, n_images), 1)


def test_nodes_with_every_image_or_none_and_undefined_f1_have_no_score():
    f1 = np.array([0.5, 0.5, np.nan, 0.5])
    np.testing.assert_allclose(
        adjusted_f1(f1, np.array([0, 10, 5, 5]), 10), [np.nan, np.nan, np.nan, (0.5 - 2 / 3) / (1 / 3)]
    )


def test_in_a_mean_no_node_counts_less_than_always_firing():
    """A latent with 14 hits among 15 firings, at a node of 182 of 183 images: -337 would decide a mean of 61 nodes."""
    f1, n_node = np.array([2 * 14 / (15 + 182), 0.9, np.nan, 0.5]), np.array([182, 20, 20, 183])
    assert adjusted_f1(f1, n_node, 183)[0] < -300
    expected = [0, adjusted_f1(f1, n_node, 183)[1], np.nan, np.nan]
    np.testing.assert_array_equal(node_adjusted_f1(f1, n_node, 183), expected)
