"""The emulated device behaves as CUDA does, so that what passes on it says something."""

import pytest
import torch
from tests.devices.emulated_cuda import COPY, CUDA, UNPINNED, EmulatedCuda

from hsae.devices.numerics import same_bits


def test_a_tensor_of_the_cpu_beside_one_of_the_device_is_an_error():
    with EmulatedCuda():
        there = torch.ones(3, device=CUDA)
        assert there.device == CUDA
        assert (there + torch.tensor(1.0)).device == CUDA  # without a dimension it is a number
        with pytest.raises(RuntimeError, match="on the same device"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="copy it to the host"):
            there.numpy()


def test_its_memory_cannot_be_read_by_address():
    """There is none: to read it from address 0, as code of another language may, would end the process."""
    with EmulatedCuda():
        there = torch.ones(3, device=CUDA)
        for read in (torch.Tensor.data_ptr, torch.utils.dlpack.to_dlpack):  # type: ignore[attr-defined]
            with pytest.raises(RuntimeError, match="Cannot access data pointer"):
                read(there)


def test_it_counts_what_the_host_waits_for():
    with EmulatedCuda() as cuda:
        there = torch.arange(4.0).pin_memory().to("cuda", non_blocking=True)
        doubled = (there * 2).sum()
        assert not cuda.waits
        assert float(doubled) == 12.0
        assert there.nonzero().flatten().tolist() == [1, 2, 3]
        assert there[there > 1].shape == (2,)
        assert there.cpu().tolist() == [0.0, 1.0, 2.0, 3.0]
        assert bool((there.sum() > 0).item())
        names = dict(cuda.waits)
        torch.arange(4.0).to("cuda", non_blocking=True)
    assert cuda.waits[UNPINNED] == 1
    assert names.pop("_local_scalar_dense") == 2
    assert names.pop("nonzero") == 1
    assert names.pop("tolist") == 1
    assert names.pop(COPY) == 1
    assert names == {"index with a mask": 1}


def test_gradients_and_a_step_stay_on_the_device():
    with EmulatedCuda() as cuda:
        layer = torch.nn.Linear(3, 2).to(CUDA)
        optimiser = torch.optim.Adam(layer.parameters(), fused=True)
        x = torch.ones(4, 3, device=CUDA)
        cuda.reset()
        before = layer.weight.detach().clone()
        layer(x).square().sum().backward()
        optimiser.step()
        assert layer.weight.grad.device == CUDA
        assert not cuda.waits
        assert not torch.equal(layer.weight.detach().cpu(), before.cpu())
        assert type(layer.cpu().weight.data) is torch.Tensor


@pytest.mark.parametrize(
    "refused",
    [
        lambda x: x.cumsum(0),
        lambda x: x.kthvalue(2),
        lambda x: x.median(0),
        lambda x: torch.bincount(torch.arange(6).to(CUDA), weights=x),
        lambda x: torch.histc(x),
    ],
)
def test_what_has_no_deterministic_way_is_refused_where_one_is_asked_for(refused):
    with EmulatedCuda():
        x = torch.arange(6.0).to(CUDA)
        refused(x)
        with same_bits(CUDA), pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
            refused(x)
        with same_bits(CUDA):
            assert torch.arange(6).to(CUDA).cumsum(0).tolist()[-1] == 15
