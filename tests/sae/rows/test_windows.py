"""The bounded shuffle: which rows a window has, and which of them a step takes."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.sae.rows.windows import WindowOrder

SHARDS = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) >= 1)


def rows_of_step(order: WindowOrder, sizes: list[int], step: int) -> list[tuple[int, int]]:
    """(shard, row of the shard) of every row of a step, by a plain loop over windows and shards."""
    found = []
    for piece in order.pieces(step):
        listed = [(shard, row) for shard in order.shards(piece.window) for row in range(sizes[shard])]
        taken = order.row_order(piece.window).tolist()
        assert sorted(taken) == list(range(len(listed)))
        found += [listed[taken[place]] for place in range(piece.start, piece.stop)]
    return found


def make_order(sizes: list[int], window_shards: int, batch_size: int, seed: int) -> WindowOrder:
    return WindowOrder(torch.tensor(sizes), window_shards, min(batch_size, sum(sizes)), seed)


@examples(60)
@given(SHARDS, st.integers(1, 6), st.integers(1, 20), st.integers(0, 2**63 - 1))
def test_every_row_comes_once_a_pass_in_full_batches_and_any_step_can_be_asked_for(sizes, window, batch, seed):
    order = make_order(sizes, window, batch, seed)
    n_rows, size = sum(sizes), order.batch_size
    everything = {(shard, row) for shard, n in enumerate(sizes) for row in range(n)}
    for epoch in range(2):
        steps = range(epoch * order.batches_per_epoch, (epoch + 1) * order.batches_per_epoch)
        batches = [rows_of_step(order, sizes, step) for step in steps]
        seen = [row for batch_rows in batches for row in batch_rows]
        assert all(len(batch_rows) == size for batch_rows in batches)
        assert len(set(seen)) == len(seen) == n_rows // size * size
        assert set(seen) <= everything
        for step, expected in zip(steps, batches, strict=True):  # without what was asked before
            assert rows_of_step(make_order(sizes, window, batch, seed), sizes, step) == expected


def test_windows_have_neighbours_of_the_order_of_shards_and_passes_and_seeds_differ():
    order = make_order([4] * 10, 3, 8, 0)
    first = [order.shards(window) for window in range(order.windows_per_epoch)]
    second = [order.shards(order.windows_per_epoch + window) for window in range(order.windows_per_epoch)]
    other = [make_order([4] * 10, 3, 8, 1).shards(window) for window in range(order.windows_per_epoch)]
    for drawn in (first, second, other):
        assert [len(shards) for shards in drawn] == [3, 3, 3, 1]
        assert sorted(shard for shards in drawn for shard in shards) == list(range(10))
    assert first != second
    assert first != other
    assert not torch.equal(order.row_order(0), order.row_order(1))


def test_a_shard_without_training_rows_is_never_read():
    order = make_order([0, 5, 0, 5], 1, 5, 0)
    assert order.windows_per_epoch == 2
    assert {shard for window in range(20) for shard in order.shards(window)} == {1, 3}


def test_the_order_is_that_of_every_version():
    sizes = [3, 2, 4]
    order = make_order(sizes, 2, 4, 7)
    assert [rows_of_step(order, sizes, step) for step in range(2)] == [
        [(2, 0), (2, 2), (2, 3), (1, 1)],
        [(1, 0), (2, 1), (0, 1), (0, 2)],
    ]
