"""An extraction on the emulated device: no tensor on the wrong side, one wait for a batch, the bits of the parts."""

import pytest
import torch
from tests.devices.emulated_cuda import COPY, CUDA, EmulatedCuda
from tests.extraction.conftest import listing_of

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.datasets import source_at
from hsae.demo import backbone_folder, images_folder
from hsae.extraction import shards
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.held_batch import HeldBatch
from hsae.extraction.shards import extract_shard

LAYERS = (0, 2, 3)


@pytest.fixture(scope="module")
def spec():
    return inspect_backbone(str(backbone_folder()))


@pytest.fixture
def images(tmp_path):
    for number, source in enumerate(sorted(images_folder().glob("*/*.webp"))[:9]):
        (tmp_path / f"{number}.webp").write_bytes(source.read_bytes())
    return tmp_path


def extract(backbone, folder, *, on_batch=lambda n: None, spare_memory=False, **changes):
    listed = listing_of(folder, [f"{number}.webp" for number in range(9)])
    config = ExtractionConfig(**{"batch_size": 4, **changes})
    return extract_shard(backbone, source_at(folder), listed, config, on_batch=on_batch, spare_memory=spare_memory)


@pytest.mark.filterwarnings("ignore:User provided device_type")
@pytest.mark.parametrize(("tokens", "dtype"), [("cls", "float32"), ("patches", "bfloat16"), ("mean", "float32")])
def test_a_batch_waits_once_and_comes_to_the_same(spec, images, tokens, dtype):
    expected = extract(
        Backbone.load(spec, layers=LAYERS, device=torch.device("cpu")), images, tokens=tokens, dtype=dtype
    )
    counted = []
    with EmulatedCuda() as cuda:
        backbone = Backbone.load(spec, layers=LAYERS, device=CUDA)
        assert backbone.device == CUDA
        cuda.reset()

        def on_batch(n_done):
            counted.append(dict(cuda.waits))
            cuda.reset()

        found = extract(backbone, images, on_batch=on_batch, tokens=tokens, dtype=dtype, part_images=2)
    assert counted == [{COPY: 1}] * 3
    for layer in LAYERS:
        assert type(found.activations[layer]) is torch.Tensor
        torch.testing.assert_close(found.activations[layer], expected.activations[layer], rtol=2e-2, atol=1e-4)


@pytest.mark.filterwarnings("ignore:User provided device_type")
@pytest.mark.parametrize("spare_memory", [False, True])
def test_the_next_batch_is_sent_while_this_one_is_computed(spec, images, monkeypatch, spare_memory):
    """Unless memory is lacking."""
    seen: list[str] = []
    on_device, to_cpu = shards._on_device, HeldBatch.to_cpu
    monkeypatch.setattr(shards, "_on_device", lambda *args: seen.append("sent") or on_device(*args))
    monkeypatch.setattr(HeldBatch, "to_cpu", lambda held: seen.append("fetched") or to_cpu(held))
    with EmulatedCuda():
        backbone = Backbone.load(spec, layers=LAYERS, device=CUDA)
        done = []
        extract(backbone, images, on_batch=done.append, spare_memory=spare_memory)
    assert done == [4, 8, 9]
    assert seen == ["fetched"] * 3 if spare_memory else ["sent", *["sent", "fetched"] * 2, "fetched"]


@pytest.mark.filterwarnings("ignore:User provided device_type")
def test_with_little_on_the_device_the_bits_are_the_same(spec, images):
    with EmulatedCuda():
        backbone = Backbone.load(spec, layers=LAYERS, device=CUDA)
        much, little = (
            extract(backbone, images, tokens="patches", part_images=3, spare_memory=spare) for spare in (False, True)
        )
    for layer in LAYERS:
        assert torch.equal(much.activations[layer], little.activations[layer])
    assert torch.equal(much.image_index, little.image_index)
