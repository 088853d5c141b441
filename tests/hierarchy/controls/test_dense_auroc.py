"""AUROC without thresholds against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from tests.examples import examples
from tests.hierarchy.controls.dense_columns import columns_of

from hsae.hierarchy.controls.dense_auroc import dense_auroc, doubled_rank_sum
from hsae.hierarchy.kernels import blocks as kernel_blocks
from hsae.vocabulary.bases import CONTROL_BASES

seeds = st.integers(0, 2**32 - 1)


@examples(60)
@given(seed=seeds)
def test_rank_sums_equal_scipys(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    values = np.round(rng.standard_normal(n), int(rng.integers(0, 3))).astype(np.float32)
    chosen = rng.permutation(n)[: rng.integers(0, n + 1)]
    ordered = torch.from_numpy(np.sort(values))
    found = doubled_rank_sum(ordered, torch.from_numpy(values[chosen]))
    assert found.item() == 2 * rankdata(values)[chosen].sum()


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
        columns.values(np.arange(first, min(first + 3, columns.n_columns))).numpy()
        for first in range(0, columns.n_columns, 3)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_blocks, "_BLOCK_VALUES", 1)
        patch.setattr(kernel_blocks, "_MIN_BLOCK_COLUMNS", 3)
        auroc = dense_auroc(columns, case.labels, case.taxonomy.closure, (latents, nodes))
    assert len(auroc) == len(latents)
    for pair, (latent, node) in enumerate(zip(latents[:60], nodes[:60], strict=True)):
        column, under = blocks[latent // 3][latent % 3], is_under[:, node]
        if under.any() and not under.all() and len(np.unique(column)) > 1:
            assert auroc[pair] == pytest.approx(roc_auc_score(under, column), abs=1e-9)
        else:
            assert np.isnan(auroc[pair])
