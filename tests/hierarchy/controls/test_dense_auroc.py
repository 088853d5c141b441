"""AUROC without thresholds against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from tests.examples import examples
from tests.hierarchy.controls.dense_columns import columns_of

from hsae.hierarchy.config import CONTROL_BASES
from hsae.hierarchy.controls import dense_auroc as controls
from hsae.hierarchy.controls.dense_auroc import dense_auroc, doubled_ranks

seeds = st.integers(0, 2**32 - 1)


@examples(40)
@given(seed=seeds)
def test_ranks_equal_scipys(seed):
    rng = np.random.default_rng(seed)
    values = np.round(rng.standard_normal((int(rng.integers(1, 5)), int(rng.integers(1, 20)))), int(rng.integers(0, 3)))
    ranks, is_constant = doubled_ranks(values.astype(np.float32))
    np.testing.assert_array_equal(ranks, 2 * rankdata(values, axis=1))
    assert is_constant.tolist() == [len(set(row)) == 1 for row in values.astype(np.float32)]


@examples(25)
@given(seed=seeds, name=st.sampled_from(CONTROL_BASES))
def test_it_equals_sklearns(random_case, seed, name):
    case = random_case(seed)
    columns = columns_of(case, seed)[name]
    is_under = case.is_under()
    latents, nodes = (axis.ravel() for axis in np.indices((columns.n_columns, is_under.shape[1])))
    shuffled = np.random.default_rng(seed).permutation(len(latents))
    latents, nodes = latents[shuffled], nodes[shuffled]
    blocks = [
        columns.values(np.arange(first, min(first + 3, columns.n_columns))) for first in range(0, columns.n_columns, 3)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "_BLOCK_VALUES", 1)
        patch.setattr(controls, "_MIN_BLOCK_COLUMNS", 3)
        auroc = dense_auroc(columns, case.labels, case.taxonomy.closure, (latents, nodes))
    assert len(auroc) == len(latents)
    for pair, (latent, node) in enumerate(zip(latents[:60], nodes[:60], strict=True)):
        column, under = blocks[latent // 3][latent % 3], is_under[:, node]
        if under.any() and not under.all() and len(np.unique(column)) > 1:
            assert auroc[pair] == pytest.approx(roc_auc_score(under, column), abs=1e-9)
        else:
            assert np.isnan(auroc[pair])
