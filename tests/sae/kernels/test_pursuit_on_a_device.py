"""The gradient of matching pursuit on an emulated GPU, where equal picks meet."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.devices.sync_counter import SyncCounter
from tests.examples import examples

from hsae.sae.kernels.pursuit import _Pursuit, pursue
from hsae.sae.losses import fired_latents


def _gradients(x, directions, weights, k, device):
    """Of rows and directions; torch's own backward pass would ask the driver for a stream."""
    rows, dictionary = x.to(device), directions.to(device)
    picks = pursue(rows, dictionary, k)
    context: Any = SimpleNamespace(
        save_for_backward=lambda *tensors: setattr(context, "saved_tensors", tensors),
        mark_non_differentiable=lambda *_: None,
    )
    gradient = weights.to(device)
    with SyncCounter("cuda") as syncs:
        _Pursuit.forward(context, rows, dictionary, picks)
        of_rows, of_directions, _ = _Pursuit.backward(context, gradient)
    assert syncs.total == 0, syncs
    assert of_rows is not None
    assert of_directions is not None
    return of_rows.cpu(), of_directions.cpu()


@examples(25)
@given(seed=st.integers(0, 2**31), n_rows=st.integers(1, 60), n_latents=st.integers(1, 9), k=st.integers(1, 6))
def test_rows_of_equal_picks_are_added_up_in_their_order(seed, n_rows, n_latents, k):
    """And not one by one into one place, as CUDA does where indices are equal and operations must be deterministic."""
    generator = torch.Generator().manual_seed(seed)
    x, weights = torch.randn(2, n_rows, 5, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(n_latents, 5, generator=generator))
    expected = _gradients(x, directions, weights, k, "cpu")
    with NumericCuda() as gpu:
        found, again = (_gradients(x, directions, weights, k, "cuda:0") for _ in range(2))
    assert gpu.n_accumulations == 0
    for one, other, once_more in zip(found, expected, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert torch.equal(one, once_more)


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_which_latents_fired_is_no_sum(is_deterministic):
    """Where operations must be deterministic, CUDA adds up counts one by one, too."""
    picks, values = torch.tensor([[0, 3], [3, 1]]), torch.tensor([[0.5, 0.0], [2.0, 0.0]])
    torch.use_deterministic_algorithms(is_deterministic)
    try:
        with NumericCuda() as gpu, SyncCounter("cuda") as syncs:
            there = (
                picks.pin_memory().to("cuda:0", non_blocking=True),
                values.pin_memory().to("cuda:0", non_blocking=True),
            )
            found = fired_latents(*there, 5)
            assert syncs.total == 0, syncs
            assert found.tolist() == [True, False, False, True, False]
        assert gpu.n_accumulations == 0
    finally:
        torch.use_deterministic_algorithms(False)
    assert fired_latents(picks, values, 5).tolist() == [True, False, False, True, False]
