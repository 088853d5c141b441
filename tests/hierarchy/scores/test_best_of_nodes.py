import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.hierarchy.scores.best_of_nodes import BestOfNodes


@examples(60)
@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([1, 3, 20]))
def test_ties_go_to_the_lower_latent_whatever_the_blocks(seed, width):
    rng = np.random.default_rng(seed)
    f1 = rng.integers(0, 4, (20, 6)) / 4 * (rng.random((20, 6)) < 0.5)
    best = BestOfNodes(6)
    for first in range(0, 20, width):
        block = f1[first : first + width]
        latent, node = np.divmod(np.arange(block.size), 6)
        best.add(latent + first, node, block.ravel())
    for node in range(6):  # type: ignore[assignment]
        latents = sorted((j for j in range(20) if f1[j, node] > 0), key=lambda j: -f1[j, node])
        assert best.latent[node] == (latents[0] if latents else -1)
        assert best.f1[node] == f1[:, node].max()
