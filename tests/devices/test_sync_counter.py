"""The counter sees what makes a host wait, and nothing else."""

import pytest
import torch
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.devices.sync_counter import SyncCounter

WAITS = {
    "item": lambda x: x[0].item(),
    "int": lambda x: int(x[0]),
    "if": lambda x: 1 if x[0] > 0 else 0,
    "nonzero": lambda x: x.nonzero(),
    "where with one argument": lambda x: torch.where(x > 0),
    "masked_select": lambda x: x.masked_select(x > 0),
    "mask": lambda x: x[x > 0],
    "write through a mask": lambda x: x.index_put_((x > 1,), torch.zeros(1, device=x.device)),
    "unique": lambda x: x.unique(),
    "unique_consecutive": lambda x: x.unique_consecutive(),
    "equal": lambda x: torch.equal(x, x + 1),
    "repeat_interleave": lambda x: torch.arange(3, device=x.device).repeat_interleave(x.long()),
}
FREE = {
    "product": lambda x: x @ x,
    "index": lambda x: x[torch.arange(2, device=x.device)],
    "where": lambda x: torch.where(x > 0, x, 0),
    "nonzero_static": lambda x: torch.nonzero_static(x > 0, size=3),
    "repeat_interleave": lambda x: torch.arange(3, device=x.device).repeat_interleave(x.long(), output_size=6),
    "sort": lambda x: x.sort(),
}


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("what", WAITS)
def test_waiting_is_counted_once(what, device):
    with NumericCuda():
        x = torch.tensor([1.0, 2.0, 3.0]).to(device)
        with SyncCounter() as syncs:
            WAITS[what](x)
    assert syncs.total == 1, syncs


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("what", FREE)
def test_other_operations_are_not(what, device):
    with NumericCuda():
        x = torch.tensor([1.0, 2.0, 3.0]).to(device)
        with SyncCounter() as syncs:
            FREE[what](x)
    assert syncs.total == 0, syncs


def test_copies_between_devices_wait_in_both_directions():
    with NumericCuda(), SyncCounter() as syncs:
        x = torch.ones(3).to("cuda:0")
        assert dict(syncs.counts) == {"copy from cpu to cuda": 1}
        x.cpu()
        x.to("cpu", torch.float64)
        torch.empty(3).copy_(x)
        assert syncs.counts["copy from cuda to cpu"] == 3
        before = syncs.total
        torch.ones(3).pin_memory().to("cuda:0", non_blocking=True)
        torch.ones(3).to("cpu", torch.float64)
        x.double()
        assert syncs.total == before


def test_a_copy_that_should_not_block_needs_pinned_memory():
    with NumericCuda(), SyncCounter("cuda") as syncs:
        pinned = torch.ones(6).pin_memory()
        x = pinned[2:5].to("cuda:0", non_blocking=True)
        x.copy_(pinned[:3], non_blocking=True)
        pinned[:3].copy_(x, non_blocking=True)
        x.to("cpu", non_blocking=True)
        assert syncs.total == 0, syncs
        torch.ones(3).to("cuda:0", non_blocking=True)
        assert syncs.total == 1, syncs
        x.copy_(torch.ones(3), non_blocking=True)
        assert syncs.total == 2, syncs
        torch.ones(3).copy_(x, non_blocking=True)
        assert syncs.total == 3, syncs


def test_an_index_of_the_cpu_is_sent_to_the_device():
    with NumericCuda(), SyncCounter("cuda") as syncs:
        x = torch.ones(3, 3, device="cuda:0")
        index = torch.tensor([0, 2])
        x[index]
        assert syncs.total == 1, syncs
        x[index, index]
        assert syncs.total == 3, syncs
        x[index] = torch.zeros(1, device="cuda:0")
        assert syncs.total == 4, syncs
        x[torch.arange(2, device="cuda:0")], x[1], x[:2]
        torch.ones(3)[index]
        assert syncs.total == 4, syncs


def test_operations_made_of_others_are_seen_in_inference_mode():
    """There torch hands them over as a whole."""
    with NumericCuda() as gpu, torch.inference_mode():
        x = torch.arange(3.0).to("cuda:0")
        with SyncCounter() as syncs:
            x.cpu(), x.to("cpu", torch.float64), x[0].item(), x[x > 0]
    assert syncs.total == 4, syncs
    assert gpu.n_bytes_to_host == 3 * 4 + 3 * 8


def test_tensors_of_other_devices_can_be_left_out():
    with NumericCuda(), SyncCounter("cuda") as syncs:
        torch.ones(3).nonzero()
        assert syncs.total == 0
        torch.ones(3, device="cuda:0").nonzero()
        assert syncs.total == 1
        assert "nonzero" in str(syncs)
