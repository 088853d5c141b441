"""Whole jobs of extraction, training and maps on the emulated device: what they store is what the CPU stores."""

import pytest
import torch
from sqlalchemy import text
from tests.devices.emulated_cuda import CUDA, EmulatedCuda
from tests.pipeline.in_process import TINY_SAE, attempt, job_id, plan_small, run_jobs
from tests.small import register_small

from hsae.catalog import transaction
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.stages.activations import hardware
from hsae.relevancy.config import MAP_METHODS, MapSettings
from hsae.sae.kernels import devices
from hsae.sae.rows import training_data
from hsae.store.keys import maps_key, weights_key
from hsae.store.tensors import get_tensors

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:User provided device_type")]

STREAMED = TINY_SAE.model_copy(update={"rows": "stream", "window_shards": 2, "batch_size": 8})
MAPS = MapSettings(latents=3, images=2, methods=MAP_METHODS, batch_size=4)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """What asks a driver is answered; the sparse products are torch's, for Triton has no device here."""
    monkeypatch.setattr(hardware, "hardware_of", lambda device: f"an emulated {device.type}")
    monkeypatch.setattr(training_data, "free_memory", lambda device: 1 << 40)
    monkeypatch.setattr(devices, "_triton_is_installed", lambda: False)


def ran_on(service, plan, kind, device) -> None:
    """Run the plan's one job of a kind by its stage, as a worker does; then the job is over, too."""
    with attempt(service, job_id(plan, kind)) as (request, context):
        context.device = device
        if device == CUDA:
            with EmulatedCuda():
                stage_of(kind).run(request, context)
        else:
            stage_of(kind).run(request, context)
    assert run_jobs(service, plan, kind) == ["succeeded"]


def stored(service) -> dict[str, torch.Tensor]:
    """Every tensor of activations, SAEs and maps, by its table, place and name."""
    found: dict[str, torch.Tensor] = {}
    queries = {
        "shard": ("SELECT shard, object_key, sha256 FROM activation_shard", lambda row: row["object_key"]),
        "sae": ("SELECT key, weights_sha256 AS sha256 FROM sae", lambda row: weights_key(row["key"], row["sha256"])),
        "map": ("SELECT key, maps_sha256 AS sha256 FROM map_set", lambda row: maps_key(row["key"], row["sha256"])),
    }
    for table, (query, key_of) in queries.items():
        with transaction(service.sessions) as session:
            rows = [dict(row) for row in session.execute(text(f"{query} ORDER BY 1")).mappings()]
        for number, row in enumerate(rows):
            tensors, _ = get_tensors(service.store, key_of(row), sha256=row["sha256"])
            found |= {f"{table} {number} {name}": tensor for name, tensor in tensors.items()}
    return found


@pytest.mark.parametrize("sae", [TINY_SAE, STREAMED], ids=["rows in memory", "rows streamed"])
def test_extraction_training_and_maps(make_service, as_on_a_gpu, sae):
    made = []
    for device in (torch.device("cpu"), CUDA):
        service = make_service()
        register_small(service, n_classes=4)
        extraction = ExtractionConfig(shard_images=8, batch_size=4)
        plan = plan_small(service, layers=(2,), saes=(sae,), extraction=extraction, own={"map": MAPS})
        ran_on(service, plan, "extract", device)
        ran_on(service, plan, "train", device)
        assert run_jobs(service, plan, "analyze") == ["succeeded"]
        ran_on(service, plan, "map", device)
        made.append(stored(service))
    expected, found = made
    assert found.keys() == expected.keys()
    assert {name.split()[0] for name in found} == {"shard", "sae", "map"}
    for name, tensor in expected.items():
        assert torch.allclose(found[name].double(), tensor.double(), rtol=2e-2, atol=2e-3), name
