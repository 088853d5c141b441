"""The emulated device computes, refuses and runs out of memory as CUDA does."""

import gc

import pytest
import torch
from tests.devices.numeric.numeric_cuda import NumericCuda


def test_values_are_those_of_the_cpu():
    with NumericCuda():
        x = torch.arange(6.0).to("cuda:0").view(2, 3)
        y = torch.zeros(3, device="cuda:0")
        y[1:] += (x @ x.T).sum(0)
        assert (x.device.type, y.device.type) == ("cuda", "cuda")
        assert y.tolist() == [0.0, 19.0, 64.0]
        with pytest.raises(RuntimeError, match="numpy"):
            y.numpy()


def test_its_memory_cannot_be_read_by_address():
    with NumericCuda(), pytest.raises(RuntimeError, match="Cannot access data pointer"):
        torch.ones(3, device="cuda:0").data_ptr()


def test_a_number_divides_by_its_reciprocal_and_a_tensor_does_not():
    values = torch.arange(1.0, 200.0, dtype=torch.float64)
    with NumericCuda():
        x = values.to("cuda:0")
        by_number, by_tensor = (x / 3.0).cpu(), (x / torch.full_like(x, 3.0)).cpu()
        x /= 3.0
        in_place = x.cpu()
    assert torch.equal(by_tensor, values / 3.0)
    assert torch.equal(by_number, values * (1.0 / 3.0))
    assert torch.equal(in_place, by_number)
    assert not torch.equal(by_number, by_tensor)


def test_transcendental_functions_differ_in_the_last_digit():
    values = torch.linspace(0.1, 3.0, 50, dtype=torch.float64)
    with NumericCuda():
        found = torch.erfc(values.to("cuda:0")).cpu()
        assert torch.equal(torch.sqrt(values.to("cuda:0")).cpu(), values.sqrt())
    assert not torch.equal(found, torch.erfc(values))
    torch.testing.assert_close(found, torch.erfc(values), rtol=1e-15, atol=0)


def test_atomic_additions_have_no_order():
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-9, 9, 1000)
    with NumericCuda():
        x, cell = values.to("cuda:0"), torch.zeros(1000, dtype=torch.int64, device="cuda:0")
        sums = [torch.zeros(1, device="cuda:0").scatter_add_(0, cell, x).item() for _ in range(20)]
    assert len(set(sums)) > 1


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + torch.ones(3),
        lambda x: x.index_select(0, torch.arange(2)),
        lambda x: torch.cat((x, torch.ones(1))),
        lambda x: x.index_add_(0, torch.arange(3), x),
        lambda x: torch.arange(3.0).scatter_(0, torch.arange(3, device="cuda:0"), x),
    ],
)
def test_tensors_of_two_devices_do_not_mix(mix):
    with NumericCuda(), pytest.raises(RuntimeError, match="same device"):
        mix(torch.ones(3, device="cuda:0"))


def test_what_cuda_allows_is_allowed():
    with NumericCuda():
        x = torch.ones(3, device="cuda:0")
        assert (x + torch.tensor(2.0)).tolist() == [3.0, 3.0, 3.0]
        assert x[torch.tensor([0, 1])].device.type == "cuda"
        x[torch.tensor([0])] = torch.zeros(1, device="cuda:0")
        x[1:].copy_(torch.tensor([4.0, 5.0]))
        assert x.tolist() == [0.0, 4.0, 5.0]


def test_memory_that_nobody_wrote_is_no_zero():
    with NumericCuda():
        assert torch.empty(3, device="cuda:0").isnan().all()
        assert (torch.empty(3, dtype=torch.int64, device="cuda:0") < 0).all()


def test_memory_is_counted_and_limited():
    with NumericCuda(memory=4000) as gpu:
        x = torch.zeros(500, device="cuda:0")
        part = x[10:]  # a view takes nothing
        assert gpu.n_bytes == 2000
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 4000 bytes, 2000 are free"):
            torch.zeros(1000, device="cuda:0")
        y = x + 1
        assert (gpu.n_bytes, gpu.n_bytes_peak) == (4000, 4000)
        del x, y
        gc.collect()
        assert gpu.n_bytes == 2000  # held by the view
        del part
        gc.collect()
        assert (gpu.n_bytes, gpu.n_bytes_peak) == (0, 4000)


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_additions_one_by_one_are_counted(is_deterministic):
    torch.use_deterministic_algorithms(is_deterministic)
    try:
        with NumericCuda() as gpu:
            x, ones = torch.ones(4, device="cuda:0"), torch.ones(4, device="cuda:0")
            place = torch.zeros(4, dtype=torch.int64, device="cuda:0")
            x.index_put_((place,), ones, accumulate=True)
            assert gpu.n_accumulations == 1
            x.index_add_(0, place, ones)
            assert gpu.n_accumulations == 1 + is_deterministic
    finally:
        torch.use_deterministic_algorithms(False)
