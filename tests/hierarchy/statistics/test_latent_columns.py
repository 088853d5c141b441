import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.kernels import blocks
from hsae.hierarchy.statistics.latent_columns import latent_columns
from hsae.hierarchy.statistics.ranks import rank_activations, strongest_first

seeds = st.integers(0, 2**32 - 1)
_ARRAYS = ("indptr", "image", "activation", "rank_excess", "tie_term", "n_fire", "fire_mass", "top_images")


def cut(z: sp.csr_array, rng: np.random.Generator) -> list[sp.csr_array]:
    """Shards of random sizes, now and then an empty one."""
    borders = np.sort(rng.integers(0, z.shape[0] + 1, int(rng.integers(0, 5))))
    return [z[first:end] for first, end in zip([0, *borders], [*borders, z.shape[0]], strict=True)]


@examples(60)
@given(seed=seeds)
def test_shards_give_what_the_whole_gives(random_case, seed):
    case = random_case(seed)
    shards = cut(case.z, np.random.default_rng(seed))
    columns, turned = latent_columns(iter(shards)), sp.csc_array(case.dense)
    assert columns.n_images == len(case.dense)
    for name, expected in (("indptr", turned.indptr), ("image", turned.indices), ("activation", turned.data)):
        np.testing.assert_array_equal(getattr(columns, name), expected, err_msg=name)
    whole, streamed = rank_activations(case.z), rank_activations(iter(shards))
    for name in _ARRAYS:
        left, right = getattr(whole, name), getattr(streamed, name)
        assert left.dtype == right.dtype, name
        np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_threads_change_nothing(random_case, monkeypatch, n_threads):
    case = random_case(11)
    whole = rank_activations(case.z)
    monkeypatch.setattr(blocks, "_BLOCK_NONZEROS", 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    for name in _ARRAYS:
        np.testing.assert_array_equal(getattr(rank_activations(case.z), name), getattr(whole, name), err_msg=name)


@examples(60)
@given(seed=seeds, first_column=st.sampled_from([0, 3, 2**29]))
def test_order_equals_a_lexical_sort(seed, first_column):
    """Columns near 2**29 leave no room for the position in a key."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 50))
    column = np.sort(rng.integers(0, 4, n)) + first_column
    value = rng.choice(np.array([1e-45, 1e-30, 0.5, 1.0, 3e38], np.float32), n)
    expected = np.lexsort((np.arange(n), -value.astype(np.float64), column))
    order, first_of_tie, tie = strongest_first(torch.from_numpy(column), torch.from_numpy(value))
    np.testing.assert_array_equal(order.numpy(), expected)
    entries = list(zip(column[expected], value[expected], strict=True))
    is_first = [place == 0 or entries[place] != entries[place - 1] for place in range(n)]
    np.testing.assert_array_equal(first_of_tie.numpy(), np.flatnonzero(is_first))
    np.testing.assert_array_equal(tie.numpy(), np.cumsum(is_first, dtype=np.int64) - 1)


def test_bad_values_are_named_by_their_image_in_the_whole():
    good, bad = (sp.csr_array(np.eye(3, dtype=np.float32)) for _ in range(2))
    bad.data[1] = np.nan
    with pytest.raises(UserError, match="image 4, latent 1"):
        rank_activations([good, bad])


def test_shards_of_different_saes_are_refused():
    shards = [sp.csr_array(np.eye(n, dtype=np.float32)) for n in (3, 4)]
    with pytest.raises(UserError, match="a shard of 4 latents after shards of 3"):
        rank_activations(shards)


def test_no_shard_at_all_is_refused():
    with pytest.raises(UserError, match="nothing to score"):
        rank_activations([])
