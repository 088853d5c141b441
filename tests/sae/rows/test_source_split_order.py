"""Checking, splitting and drawing of rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.errors import UserError
from hsae.sae.rows.order import BatchOrder
from hsae.sae.rows.source import TrainingRows, check_rows, take_rows
from hsae.sae.rows.split import split_rows, subsample


def make_rows(n_images: int, n_views: int, *, first_image: int = 0) -> TrainingRows:
    index = torch.arange(n_images * n_views)
    activations = torch.randn(n_images * n_views, 4, generator=torch.Generator().manual_seed(0))
    return TrainingRows(activations, (first_image + index // n_views).int(), (index % n_views).short())


@examples(50)
@given(st.integers(4, 60), st.integers(1, 4), st.floats(0, 0.5), st.integers(0, 2**63 - 1))
def test_split_is_by_image_and_measures_plain_rows(n_images, n_views, share, seed):
    rows = make_rows(n_images, n_views, first_image=5)
    shuffle = torch.randperm(n_images * n_views, generator=torch.Generator().manual_seed(1))
    rows = TrainingRows(rows.activations[shuffle], rows.image_index[shuffle], rows.view[shuffle])
    split = split_rows(rows, holdout_share=share, seed=seed)
    trained = set(rows.image_index[split.train].tolist())
    measured = set(rows.image_index[split.holdout].tolist())
    measured_train = set(rows.image_index[split.measured_train].tolist())
    assert (rows.view[torch.cat([split.holdout, split.measured_train])] == 0).all()
    assert len(measured_train) == len(split.measured_train)
    assert split.plain.tolist() == [i for i in range(len(shuffle)) if rows.view[i] == 0]
    if share == 0:
        assert not measured
        assert measured_train == trained == set(range(5, 5 + n_images))
    else:
        assert not trained & measured
        assert trained | measured == set(range(5, 5 + n_images))
        assert len(measured) == max(1, round(share * n_images)) == len(split.holdout)
        assert len(measured_train) == min(len(measured), len(trained))
        assert measured_train <= trained
    assert len(split.train) == len(trained) * n_views


def test_split_depends_on_the_seed_and_not_on_the_order_of_the_rows():
    rows = make_rows(50, 2)
    split = split_rows(rows, holdout_share=0.2, seed=0)
    backwards = TrainingRows(rows.activations.flip(0), rows.image_index.flip(0), rows.view.flip(0))
    again = split_rows(backwards, holdout_share=0.2, seed=0)
    other = split_rows(rows, holdout_share=0.2, seed=1)
    held_out = set(rows.image_index[split.holdout].tolist())
    assert held_out == set(backwards.image_index[again.holdout].tolist())
    assert held_out != set(rows.image_index[other.holdout].tolist())


def test_too_few_rows_and_no_plain_rows_are_errors():
    with pytest.raises(UserError, match="0 of 1 activation rows are left to train on"):
        split_rows(make_rows(1, 1), holdout_share=0.1, seed=0)
    with pytest.raises(UserError, match="1 of 2 activation rows"):
        split_rows(make_rows(2, 1), holdout_share=0.1, seed=0)
    rows = make_rows(4, 1)
    augmented = TrainingRows(rows.activations, rows.image_index, rows.view + 1)
    with pytest.raises(UserError, match=r"no plain row \(view 0\) of the held-out images"):
        split_rows(augmented, holdout_share=0.25, seed=0)
    held_out = split_rows(rows, holdout_share=0.25, seed=0).holdout
    held_out_is_plain = torch.ones(4, dtype=torch.int16)
    held_out_is_plain[held_out] = 0
    with pytest.raises(UserError, match=r"no plain row \(view 0\) of the training images"):
        split_rows(TrainingRows(rows.activations, rows.image_index, held_out_is_plain), holdout_share=0.25, seed=0)
    with pytest.raises(UserError, match=r"no plain row \(view 0\) of the training images"):
        split_rows(augmented, holdout_share=0, seed=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_bad_row_is_named(bad, dtype):
    rows = make_rows(6, 2)
    activations = rows.activations.to(dtype)
    activations[7, 2] = bad
    activations[9, 0] = bad
    with pytest.raises(UserError, match=r"activation row 7 \(image 3, view 1\) holds NaN or infinity"):
        check_rows(TrainingRows(activations, rows.image_index, rows.view))


def test_shapes_and_types_are_checked():
    rows = make_rows(3, 1)
    check_rows(rows)
    with pytest.raises(UserError, match="floating-point matrix"):
        check_rows(TrainingRows(rows.activations.int(), rows.image_index, rows.view))
    with pytest.raises(UserError, match="floating-point matrix"):
        check_rows(TrainingRows(rows.activations[0], rows.image_index, rows.view))
    with pytest.raises(UserError, match="image_index must hold one integer for each of the 3"):
        check_rows(TrainingRows(rows.activations, rows.image_index[:2], rows.view))
    with pytest.raises(UserError, match="view must hold one integer"):
        check_rows(TrainingRows(rows.activations, rows.image_index, rows.view.float()))


@examples(50)
@given(st.integers(2, 50), st.integers(1, 50), st.integers(0, 2**63 - 1))
def test_a_pass_visits_no_row_twice_and_any_step_can_be_asked_for(n_rows, batch_size, seed):
    batch_size = min(batch_size, n_rows)
    order = BatchOrder(n_rows, batch_size, seed)
    steps = 3 * order.batches_per_epoch
    batches = [order.batch(step) for step in range(steps)]
    for start in range(0, steps, order.batches_per_epoch):
        seen = torch.cat(batches[start : start + order.batches_per_epoch]).tolist()
        assert len(set(seen)) == len(seen) == n_rows // batch_size * batch_size
        assert set(seen) <= set(range(n_rows))
    jumped_to = BatchOrder(n_rows, batch_size, seed).batch(steps - 1)
    assert torch.equal(jumped_to, batches[-1])


def test_passes_differ():
    order = BatchOrder(100, 100, 0)
    assert not torch.equal(order.batch(0), order.batch(1))
    assert not torch.equal(order.batch(0), BatchOrder(100, 100, 1).batch(0))


def test_take_rows_and_subsample():
    rows = make_rows(20, 1)
    narrow = TrainingRows(rows.activations.bfloat16(), rows.image_index, rows.view)
    taken = take_rows(narrow, torch.tensor([3, 1]), torch.device("cpu"))
    assert taken.dtype == torch.float32
    assert torch.equal(taken, narrow.activations[[3, 1]].float())
    positions = torch.arange(100, 200)
    assert torch.equal(subsample(positions, 100, 0), positions)
    chosen = subsample(positions, 10, 0)
    assert torch.equal(chosen, subsample(positions, 10, 0))
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert set(chosen.tolist()) <= set(positions.tolist())
