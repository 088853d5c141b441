"""Trainings on the emulated device: no tensor on the wrong side, few waits, and the SAE on the CPU at the end."""

import pytest
import torch
from tests.devices.emulated_cuda import CUDA, EmulatedCuda, EmulatedTensor
from tests.sae.conftest import planted_dictionary, rows_of
from tests.sae.small_trainings import CPU, SHORT

from hsae.sae.kernels import devices, triton_products
from hsae.sae.training.checkpoint import TrainingState
from hsae.sae.training.trainer import train

# Waits of one step after the first ones, without a state that is kept or a point of the curve.
BUDGET = 2
# What others need more: a coefficient that adapts, a second count of entries, the borders of groups, ranks in a row.
MORE = {
    "relu with a target": 1,
    "jumprelu": 2,
    "jumprelu with tanh": 1,
    "matryoshka": 1,
    "matryoshka_topk": 4,
}


@pytest.fixture
def rows():
    return rows_of(planted_dictionary(150, 8, 12, 2)[0])


@pytest.fixture
def no_triton(monkeypatch):
    monkeypatch.setattr(devices, "_triton_is_installed", lambda: False)


@pytest.fixture(autouse=True)
def _much_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1 << 40, 1 << 40))


@pytest.mark.filterwarnings("ignore:User provided device_type")
@pytest.mark.parametrize("config", SHORT.values(), ids=SHORT)
def test_every_kind_comes_to_the_same_as_on_the_cpu(config, rows, no_triton):
    config = config.model_copy(update={"n_steps": 6})
    expected = train(config, rows, device=CPU)
    with EmulatedCuda():
        found = train(config, rows, device=CUDA)
        tensors = found.sae.state_dict()
    for name, tensor in expected.sae.state_dict().items():
        assert not isinstance(tensors[name], EmulatedTensor), f"{name} was left on the device"
        torch.testing.assert_close(tensors[name], tensor, rtol=1e-2, atol=1e-3)


@pytest.mark.filterwarnings("ignore:User provided device_type")
@pytest.mark.parametrize("kind", SHORT)
@pytest.mark.parametrize("has_dead", [False, True], ids=["no dead latents", "dead latents"])
def test_a_step_waits_twice_at_most(kind, has_dead, rows, no_triton):
    """Once for the number of firing latents, once for losses, norm and dead latents together."""
    config = SHORT[kind].model_copy(update={"dead_after_steps": 2 if has_dead else 10**6})
    for waits in waits_of_steps(config, rows):
        assert sum(waits.values()) <= BUDGET + MORE.get(kind, 0), waits


def waits_of_steps(config, rows) -> list[dict[str, int]]:
    """What the host waits for in the fourth to the ninth step; the first one also places the rows."""
    counted: list[dict[str, int]] = []

    class EnoughError(Exception):
        pass

    with EmulatedCuda() as cuda:

        def on_step(report):
            counted.append(dict(cuda.waits))
            if len(counted) == 9:
                raise EnoughError
            cuda.reset()

        with pytest.raises(EnoughError):
            train(config.model_copy(update={"n_steps": 2_000}), rows, device=CUDA, on_step=on_step)
    return counted[3:]


@pytest.mark.filterwarnings("ignore:User provided device_type")
def test_the_triton_products_do_not_wait(rows, monkeypatch):
    """Their kernels are replaced by sums in torch; what stands around them is what a GPU runs."""

    def sums(sources, first, last, values, table, dtype=None):
        out = table.new_zeros(first.shape[0], table.shape[1], dtype=dtype or table.dtype)
        elem = [getattr(each, "elem", each) for each in (sources, first, last, values, table)]
        plain = getattr(out, "elem", out)
        for output, (begin, end) in enumerate(zip(elem[1].tolist(), elem[2].tolist(), strict=True)):
            plain[output] = (elem[3][begin:end, None] * elem[4][elem[0][begin:end]]).sum(dim=0)
        return out

    def dots(left, right, left_rows, right_rows):
        return (left[left_rows] * right[right_rows]).sum(dim=1)

    monkeypatch.setattr(triton_products, "_sums", sums)
    monkeypatch.setattr(triton_products, "row_dots", dots)
    monkeypatch.setattr(devices, "_triton_is_installed", lambda: True)
    monkeypatch.setattr("hsae.sae.kernels.entries._DENSE_FROM_SHARE", 1.0)
    config = SHORT["topk"].model_copy(update={"n_steps": 8})
    expected = train(config, rows, device=CPU).sae.state_dict()
    with EmulatedCuda():
        found = train(config, rows, device=CUDA)
    assert all(sum(waits.values()) <= BUDGET for waits in waits_of_steps(config, rows))
    for name, tensor in expected.items():
        torch.testing.assert_close(found.sae.state_dict()[name], tensor, rtol=1e-2, atol=1e-3)


def test_the_state_is_on_the_device():
    from hsae.sae.model import SparseAutoencoder

    with EmulatedCuda():
        state = TrainingState.begin(SparseAutoencoder(SHORT["topk"], 8).to(CUDA))
        assert state.silent_steps.device == CUDA
        assert {parameter.device for parameter in state.sae.parameters()} == {CUDA}
