import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hsae.hierarchy.scores.adjusted_f1 import adjusted_f1


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
