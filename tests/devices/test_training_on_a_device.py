"""Trainings on the emulated device: no tensor on the wrong side, few waits, and the SAE on the CPU at the end."""

import pytest
import torch
from tests.devices.emulated_cuda import CUDA, EmulatedCuda, EmulatedTensor
from tests.sae.conftest import planted_dictionary, rows_of
from tests.sae.small_trainings import CPU, SHORT

from hsae.sae.config import SaeConfig
from hsae.sae.kernels import devices, triton_products
from hsae.sae.rows import training_data
from hsae.sae.training.checkpoint import TrainingState
from hsae.sae.training.trainer import train

# Waits of one step after the first ones, without a state that is kept or a point of the curve.
BUDGET = 2


@pytest.fixture
def rows():
    return rows_of(planted_dictionary(150, 8, 12, 2)[0])


@pytest.fixture
def no_triton(monkeypatch):
    monkeypatch.setattr(devices, "_triton_is_installed", lambda: False)


@pytest.fixture(autouse=True)
def _much_memory(monkeypatch):
    monkeypatch.setattr(training_data, "free_memory", lambda device: 1 << 40)


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
        assert sum(waits.values()) <= BUDGET, waits


@pytest.mark.filterwarnings("ignore:User provided device_type")
@pytest.mark.parametrize("settings", [{}, {"kind": "jumprelu"}], ids=["relu", "jumprelu"])
def test_a_coefficient_adapts_without_waiting(settings, rows, no_triton):
    """Every tenth step; the first of them also brings the rows on which L0 is measured."""
    warmup = {"l1_warmup_share": 0.0} if not settings else {"l0_warmup_share": 0.0}
    config = SaeConfig(target_l0=3, expansion=4, batch_size=32, learning_rate=1e-2, n_steps=20, **settings, **warmup)
    assert all(sum(waits.values()) <= BUDGET for waits in waits_of_steps(config, rows, 21)[16:])
    with EmulatedCuda():
        found = train(config, rows, device=CUDA).sae.to_tensors()
    expected = train(config, rows, device=CPU).sae.to_tensors()
    assert float(expected["last_l0"]) != 3
    for name in ("last_l0", next(name for name in expected if name.endswith("_coefficient"))):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=0)


@pytest.mark.filterwarnings("ignore:User provided device_type")
def test_rows_that_stay_in_the_host_s_memory_are_not_waited_for(rows, no_triton):
    """They come from pinned memory, in their stored type."""
    assert all(sum(waits.values()) <= BUDGET for waits in waits_of_steps(SHORT["topk"], rows, spare_memory=True))


@pytest.mark.filterwarnings("ignore:User provided device_type")
def test_a_part_of_a_batch_waits_twice_where_the_whole_batch_chooses(rows, no_triton):
    """Once for the part's largest entries, once for those of them that are among the batch's."""
    config = SHORT["batch_topk"].model_copy(update={"part_rows": 8})
    n_parts = config.batch_size // 8
    assert all(sum(waits.values()) <= 2 * n_parts + 1 for waits in waits_of_steps(config, rows))
    config = config.model_copy(update={"n_steps": 4})
    expected = train(config, rows, device=CPU).sae.to_tensors()
    with EmulatedCuda():
        found = train(config, rows, device=CUDA).sae.to_tensors()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("kind", ["topk", "matryoshka_topk", "batch_topk"])
def test_ties_and_samples_are_as_on_the_cpu_and_ask_no_more(kind):
    """What is chosen where the host may not ask for numbers: among equals, by a sample, and by a wrong sample."""
    ties = torch.randint(0, 3, (40, 64), generator=torch.Generator().manual_seed(0)).float()
    sampled = torch.randn(1_100, 64, generator=torch.Generator().manual_seed(1))
    skewed = torch.full((70_400,), 0.25)
    skewed[::97] = 10.0
    matrices = [ties] if kind != "batch_topk" else [ties, sampled, skewed.view(1_100, 64)]
    variant = SaeConfig(kind=kind, **({"ks": "2,5,9"} if kind == "matryoshka_topk" else {"k": 9})).variant
    for matrix in matrices:
        expected = variant.firing(matrix)
        with EmulatedCuda() as cuda:
            on_device = matrix.to(CUDA)
            cuda.reset()
            found = variant.firing(on_device)
            assert sum(cuda.waits.values()) == 1, cuda.waits
            rows, latents = found.rows.cpu(), found.latents.cpu()
        assert torch.equal(rows, expected.rows)
        assert torch.equal(latents, expected.latents)


def waits_of_steps(config, rows, n_steps=9, **how) -> list[dict[str, int]]:
    """What the host waits for in the fourth to the last of some steps; the first one also places the rows."""
    counted: list[dict[str, int]] = []

    class EnoughError(Exception):
        pass

    with EmulatedCuda() as cuda:

        def on_step(report):
            counted.append(dict(cuda.waits))
            if len(counted) == n_steps:
                raise EnoughError
            cuda.reset()

        with pytest.raises(EnoughError):
            train(config.model_copy(update={"n_steps": 2_000}), rows, device=CUDA, on_step=on_step, **how)
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
