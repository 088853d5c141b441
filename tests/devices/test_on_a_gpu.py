"""What can be seen on a GPU alone: real kernels, real waits, a real lack of memory. Skipped where there is none."""

import warnings

import pytest
import torch
from tests.devices.test_extraction_on_a_device import extract
from tests.devices.test_maps_on_a_device import maps_on
from tests.sae.conftest import planted_dictionary, rows_of
from tests.sae.small_trainings import CPU, SHORT, assert_same_tensors

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.demo import backbone_folder, images_folder
from hsae.devices.errors import is_broken_device, is_out_of_memory
from hsae.devices.memory import release_memory
from hsae.devices.numerics import prepare_device, same_bits
from hsae.sae.training.trainer import train

CUDA = torch.device("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.fixture(autouse=True)
def _ready():
    prepare_device(CUDA)


@pytest.fixture
def rows():
    return rows_of(planted_dictionary(150, 8, 12, 2)[0])


@pytest.mark.parametrize("config", SHORT.values(), ids=SHORT)
def test_every_kind_trains_to_the_same_bits_twice_and_nearly_those_of_the_cpu(config, rows):
    config = config.model_copy(update={"n_steps": 6})
    first, second = (train(config, rows, device=CUDA).sae.to_tensors() for _ in range(2))
    assert_same_tensors(first, second)
    for name, tensor in train(config, rows, device=CPU).sae.to_tensors().items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("kind", SHORT)
def test_a_step_waits_twice_at_most(kind, rows):
    """torch says of every operation that waits, if it is asked to."""
    config = SHORT[kind].model_copy(update={"n_steps": 2_000, "dead_after_steps": 2})
    counted: list[int] = []

    class EnoughError(Exception):
        pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def on_step(report):
            counted.append(sum("synchroniz" in str(warning.message) for warning in caught))
            caught.clear()
            torch.cuda.set_sync_debug_mode("warn")
            if len(counted) == 9:
                raise EnoughError

        try:
            with pytest.raises(EnoughError):
                train(config, rows, device=CUDA, on_step=on_step)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert max(counted[3:]) <= 2


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_an_extraction_gives_the_same_bits_twice_and_nearly_those_of_the_cpu(tmp_path, precision):
    for number, source in enumerate(sorted(images_folder().glob("*/*.webp"))[:9]):
        (tmp_path / f"{number}.webp").write_bytes(source.read_bytes())
    spec = inspect_backbone(str(backbone_folder()))
    exact = extract(Backbone.load(spec, layers=(0, 3), device=CPU), tmp_path)
    backbone = Backbone.load(spec, layers=(0, 3), device=CUDA, precision=precision)
    first, second = extract(backbone, tmp_path), extract(backbone, tmp_path, spare_memory=True)
    tolerance = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 1e-1}[precision]
    for layer, values in exact.activations.items():
        assert torch.equal(first.activations[layer], second.activations[layer])
        assert (first.activations[layer] - values).norm() <= tolerance * values.norm()


@pytest.mark.parametrize("tokens", ["cls", "mean", "patches"])
def test_maps_are_the_same_bits_twice_and_nearly_those_of_the_cpu(tokens):
    expected = maps_on(CPU, tokens)
    with same_bits(CUDA):  # an operation without a deterministic form would be an error
        first, second = (maps_on(CUDA, tokens) for _ in range(2))
    for method, maps in expected.maps.items():
        assert torch.equal(first.maps[method], second.maps[method])
        assert (first.maps[method] - maps).norm() <= 2e-2 * maps.norm()


def test_a_real_lack_of_memory_is_recognised_and_over_when_it_is_released():
    free, _total = torch.cuda.mem_get_info()
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2 * free, dtype=torch.uint8, device=CUDA)
    assert is_out_of_memory(caught.value)
    assert not is_broken_device(caught.value)
    release_memory(CUDA)
    assert int(torch.ones(8, device=CUDA).sum()) == 8
