"""Rows that are streamed: found by their numbers, split as in memory, sampled within bounds, read window by window."""

import sys
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.sae.stored_shards import ShardsInMemory

import hsae.sae.rows.streamed_split as streamed_split
from hsae.errors import UserError
from hsae.sae.rows.source import check_rows
from hsae.sae.rows.split import split_rows
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.rows.streamed_split import split_streamed
from hsae.sae.rows.window_reader import WINDOWS_HELD, WindowReader
from hsae.sae.rows.windows import WindowOrder


@st.composite
def shard_sets(draw: st.DrawFn, *, fewest: int = 0) -> ShardsInMemory:
    """Sets with any views and tokens, skipped images, images of another part, and shards without rows."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) >= fewest))
    listed = list(range(sum(sizes)))
    shuffled = draw(st.permutations(listed))
    n_out = draw(st.integers(0, len(listed) - fewest))
    n_skipped = draw(st.integers(0, n_out))
    skipped, unwanted = frozenset(shuffled[:n_skipped]), frozenset(shuffled[n_skipped:n_out])
    n_views, n_tokens = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    n_rows = (len(listed) - n_skipped) * n_views * n_tokens
    activations = torch.randn(n_rows, 4, generator=torch.Generator().manual_seed(draw(st.integers(0, 9))))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    return ShardsInMemory.of(
        activations.to(dtype), sizes, n_views=n_views, n_tokens=n_tokens, skipped=skipped, unwanted=unwanted
    )


def rows_by_number(shards: ShardsInMemory) -> dict[int, torch.Tensor]:
    """Every row of a wanted image by its number, by a loop over the rows."""
    rows, found, n_seen = shards.in_memory(), {}, {}
    for x, image, view in zip(rows.activations, rows.image_index.tolist(), rows.view.tolist(), strict=True):
        token = n_seen.get((image, view), 0)
        n_seen[image, view] = token + 1
        found[(image * shards.layout.n_views + view) * shards.layout.n_tokens + token] = x.float()
    return found


@examples(60)
@given(shard_sets(fewest=1), st.data())
def test_chunks_are_the_rows_of_these_numbers(shards, data):
    by_number = rows_by_number(shards)
    numbers = sorted(data.draw(st.sets(st.sampled_from(sorted(by_number)), min_size=1)))
    size = data.draw(st.integers(1, len(numbers) + 1))
    chunks = list(StreamedRows(shards).chunks(torch.tensor(numbers), size))
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert torch.equal(torch.cat(chunks), torch.stack([by_number[number] for number in numbers]))
    assert len(shards.read_shards) == len(set(shards.read_shards)) == shards.n_checks


@examples(60)
@given(shard_sets(fewest=4), st.floats(0, 0.5), st.integers(0, 2**63 - 1))
def test_the_split_is_that_of_the_rows_in_memory(shards, share, seed):
    rows = shards.in_memory()
    expected = split_rows(rows, holdout_share=share, seed=seed)
    split = split_streamed(shards.layout, holdout_share=share, seed=seed)
    trained = set(rows.image_index[expected.train].tolist())
    assert set(torch.nonzero(split.is_trained).flatten().tolist()) == trained
    assert split.n_train_rows == len(expected.train)
    per_shard = [sum(int(image) in trained for image in shard.image_index) for shard in shards.shards]
    assert split.rows_per_shard.tolist() == per_shard
    by_number = rows_by_number(shards)
    for name in ("train", "holdout", "plain"):  # so few rows are all measured
        found = torch.stack([by_number[number] for number in getattr(split.samples, name).tolist()] or [torch.empty(0)])
        wanted = rows.activations[getattr(expected, name)].float()
        assert sorted(found.tolist()) == sorted(wanted.tolist()) or (not len(wanted) and not found.numel())
    assert len(split.samples.measured_train) == len(expected.measured_train)


def test_samples_are_bounded(monkeypatch):
    monkeypatch.setattr(streamed_split, "SAMPLED_SHARDS", 5)
    monkeypatch.setattr(streamed_split, "SAMPLED_ROWS", 40)
    monkeypatch.setattr(streamed_split, "PLAIN_ROWS", 70)
    shards = ShardsInMemory.of(torch.randn(1800, 4), [10] * 30, n_views=2, n_tokens=3)
    split = split_streamed(shards.layout, holdout_share=0.3, seed=1)
    samples = split.samples
    of_shard = {name: set((getattr(samples, name) // 60).tolist()) for name in ("train", "holdout", "plain")}
    assert [len(getattr(samples, name)) for name in ("train", "holdout", "measured_train", "plain")] == [40, 40, 40, 70]
    assert all(len(shards_read) <= 5 for shards_read in of_shard.values())
    assert all((numbers // 3 % 2 == 0).all() for numbers in (samples.holdout, samples.measured_train, samples.plain))
    assert split.is_trained[samples.train // 6].all()
    assert not split.is_trained[samples.holdout // 6].any()
    monkeypatch.setattr(streamed_split, "_ROWS_DRAWN_FROM", 50)  # two shards have as many
    few = split_streamed(shards.layout, holdout_share=0, seed=1).samples
    assert len(set((few.train // 60).tolist())) == 1
    assert len(set((few.plain // 60).tolist())) == 2


def test_too_few_rows_are_an_error():
    layout = ShardsInMemory.of(torch.randn(2, 4), [2]).layout
    with pytest.raises(UserError, match="1 of 2 activation rows are left to train on"):
        split_streamed(layout, holdout_share=0.1, seed=0)


def test_a_row_with_nan_is_named_by_its_place_in_the_set():
    shards = ShardsInMemory.of(torch.randn(12, 4), [3, 3], n_views=2, unwanted=frozenset({1}))
    shards.shards[1].activations[2, 1] = float("nan")
    image, view = int(shards.shards[1].image_index[2]), int(shards.shards[1].view[2])
    rows = StreamedRows(shards)
    numbers = rows.layout.numbers(torch.tensor([image]), 2)
    with pytest.raises(UserError, match=rf"activation row 8 \(image {image}, view {view}\) holds NaN or infinity"):
        list(rows.chunks(numbers, 4))
    others = torch.tensor([i for i in (3, 4, 5) if i != image])
    assert sum(len(chunk) for chunk in rows.chunks(rows.layout.numbers(others, 2), 4)) == 4
    with pytest.raises(UserError, match=rf"image {image}, view {view}"):
        check_rows(shards.in_memory())


def make_reader(n_shards: int, window_shards: int, batch_size: int) -> tuple[WindowReader, WindowOrder, ShardsInMemory]:
    shards = ShardsInMemory.of(torch.arange(4.0 * n_shards)[:, None], [4] * n_shards)
    order = WindowOrder(torch.full((n_shards,), 4), window_shards, batch_size, seed=3)
    return WindowReader(StreamedRows(shards), order, torch.ones(4 * n_shards, dtype=torch.bool)), order, shards


def expected_batch(order: WindowOrder, step: int) -> list[float]:
    found = []
    for piece in order.pieces(step):
        listed = [4.0 * shard + row for shard in order.shards(piece.window) for row in range(4)]
        taken = order.row_order(piece.window).tolist()
        found += [listed[place] for place in taken[piece.start : piece.stop]]
    return found


@pytest.mark.parametrize(("window_shards", "batch_size"), [(2, 3), (1, 11), (9, 5)])
def test_batches_are_those_of_the_order_from_any_step_on(window_shards, batch_size):
    reader, order, _ = make_reader(7, window_shards, batch_size)
    n_steps = 3 * order.batches_per_epoch
    for first in (0, 4):
        with reader.reading(range(first, n_steps)) as reading:
            for step in range(first, n_steps):
                assert reading.batch(step).flatten().tolist() == expected_batch(order, step)
    assert not any(thread.name == "windows" for thread in threading.enumerate())


def test_an_order_may_be_asked_by_several_threads():
    """It remembers the last pass that was asked for; another thread may ask for another one meanwhile."""
    order = WindowOrder(torch.full((6,), 4), 2, 5, seed=3)
    windows = [range(epoch * order.windows_per_epoch, (epoch + 1) * order.windows_per_epoch) for epoch in range(2)]
    steps = [range(epoch * order.batches_per_epoch, (epoch + 1) * order.batches_per_epoch) for epoch in range(2)]

    def found(epoch: int) -> list[object]:
        return [[order.shards(window) for window in windows[epoch]], [order.pieces(step) for step in steps[epoch]]]

    expected = [found(epoch) for epoch in range(2)]
    differ = []

    def ask(epoch: int) -> None:
        differ.extend(1 for _ in range(200) if found(epoch) != expected[epoch])

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask, args=(epoch,)) for epoch in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not differ


def test_at_most_two_windows_are_held_and_none_is_read_twice_a_pass():
    reader, order, shards = make_reader(12, 2, 4)
    most = 0
    read = shards.read

    def count(shard):
        nonlocal most
        being_read = 1  # this one
        most = max(most, len(reader._held) + being_read)
        return read(shard)

    shards.read = count  # type: ignore[method-assign]
    with reader.reading(range(order.batches_per_epoch)) as reading:
        for step in range(order.batches_per_epoch):
            reading.batch(step)
    assert 1 <= most <= WINDOWS_HELD  # whether the second is read beside the first is a matter of speed
    assert sorted(shards.read_shards) == list(range(12))


def test_trainings_share_windows_and_one_that_is_ahead_waits():
    reader, order, shards = make_reader(12, 2, 4)
    n_steps = order.batches_per_epoch
    with reader.reading(range(n_steps)) as first, reader.reading(range(n_steps)) as second:
        assert first.ready(0, 30)
        assert second.ready(0, 30)
        assert first.ready(2, 30)  # the next window
        assert not first.ready(4, 0)  # the one after: the second training still needs the first window
        for step in range(5):
            assert second.batch(step).flatten().tolist() == expected_batch(order, step)
        for step in range(4, n_steps):
            for reading in (first, second):
                assert reading.batch(step).flatten().tolist() == expected_batch(order, step)
    assert sorted(shards.read_shards) == list(range(12))


def test_the_error_of_a_shard_is_raised_where_its_rows_are_needed():
    reader, order, shards = make_reader(4, 1, 4)
    lost = order.shards(2)[0]
    read = shards.read

    def fail(shard):
        if shard == lost:
            raise UserError("it is lost")
        return read(shard)

    shards.read = fail  # type: ignore[method-assign]
    with reader.reading(range(4)) as reading:
        reading.batch(0), reading.batch(1)
        with pytest.raises(UserError, match="it is lost"):
            reading.batch(2)
    assert not any(thread.name == "windows" for thread in threading.enumerate())


def test_a_shard_that_failed_before_it_was_needed_is_read_again():
    reader, order, shards = make_reader(6, 1, 4)
    away = order.shards(1)[0]
    read = shards.read
    failures = [UserError("the server is away")]

    def fail_once(shard):
        if shard == away and failures:
            raise failures.pop()
        return read(shard)

    shards.read = fail_once  # type: ignore[method-assign]
    with reader.reading(range(6)) as reading:
        reading.batch(0)
        with reader._changed:
            assert reader._changed.wait_for(lambda: reader._failed_early, 60)
        for step in range(6):
            assert reading.batch(step).flatten().tolist() == expected_batch(order, step)
