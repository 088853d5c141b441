"""Every basis of a case scored at once, and how two such results are compared."""

import dataclasses

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st
from tests.hierarchy.scoring import score_all

from hsae.vocabulary.bases import CONTROL_BASES

seeds = st.integers(0, 2**32 - 1)
N_RANDOM = 3
CONTROLS = [basis for basis in CONTROL_BASES for _ in range(N_RANDOM if basis == "random" else 1)]
BASES = ["sae", *CONTROLS, "shuffled_labels", "shuffled_labels", "shuffled_taxonomy", "shuffled_taxonomy"]


def untrained(case):
    """Latents that fire more often than the SAE's, on other images."""
    rng = np.random.default_rng(case.labels.shape[0])
    dense = rng.exponential(size=case.dense.shape) * (rng.random(case.dense.shape) < 0.7)
    return sp.csr_array(dense.astype(np.float32))


def run(case, **options):
    options = {"controls": CONTROL_BASES, "n_random": N_RANDOM, "untrained": untrained(case), **options}
    return score_all(case.z, case.labels, case.taxonomy, case.neurons, **options)


def own_numbers(layer):
    """Without what depends on which other bases are scored, and without the p-value that a shuffle does not have."""
    return dataclasses.replace(layer, rarefied_node_share=0.0, n_rarefied=0, coherence_p=0.0)


def assert_same(left, right):
    for first, second in zip(left, right, strict=True):
        assert (first.basis, first.seed) == (second.basis, second.seed)
        assert repr(own_numbers(first.layer)) == repr(own_numbers(second.layer))
        for table in ("nodes", "latents", "edges", "families"):
            if getattr(first, table) is None:
                assert getattr(second, table) is None
                continue
            columns = getattr(second, table).columns()
            for name, values in getattr(first, table).columns().items():
                assert values.dtype == columns[name].dtype
                np.testing.assert_array_equal(values, columns[name], err_msg=name)
