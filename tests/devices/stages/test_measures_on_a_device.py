"""What measures activations and SAEs, on the emulated device: the probes, an import, the zero-shot readout."""

import numpy as np
import pytest
import torch
from sqlalchemy import text
from tests.devices.emulated_cuda import CUDA, EmulatedCuda, EmulatedTensor
from tests.devices.stages.nearly import about
from tests.pipeline.in_process import attempt, job_id, run_jobs
from tests.pipeline.stages.evaluation.test_class_probe import make_rows, make_sae
from tests.pipeline.stages.imports.test_import_sae import registered, submitted, write_peer
from tests.pipeline.stages.test_probe import plan_probe, probe_of, query
from tests.small import register_small

from hsae.backbones.inspection import inspect_backbone
from hsae.catalog import transaction
from hsae.demo import clip_folder
from hsae.hierarchy.config import ProbeConfig
from hsae.pipeline.connections import Connections
from hsae.pipeline.stages import probe as probe_stage
from hsae.pipeline.stages.evaluation import class_probe
from hsae.pipeline.stages.evaluation.class_probe import ProbedRows, probe_reconstruction
from hsae.pipeline.stages.imports.import_sae import import_sae
from hsae.pipeline.stages.text.embedding import load_embedding
from hsae.taxonomy import Synset
from hsae.text.models import find_text_model
from hsae.text.tower import TextTower
from hsae.text.zero_shot import zero_shot_readout

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type")


@pytest.fixture(scope="module")
def service(make_service):
    service = make_service()
    register_small(service, n_classes=4)
    return service


def test_the_probes_of_a_layer(service):
    """Ridge, neighbours and the logistic one."""
    plan = plan_probe(service, probe=ProbeConfig(n_path_shuffles=3, logistic=True))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    found = []
    with attempt(service, job_id(plan, "probe")) as (request, context):
        for device in (CPU, CUDA):
            context.device = device
            if device == CPU:
                probe_stage.probe(request, context)
            else:
                with EmulatedCuda():
                    probe_stage.probe(request, context)
            row, levels = probe_of(service, plan)
            found.append([{**each, "id": 0, "class_probe_id": 0, "created_at": None} for each in (row, *levels)])
            with transaction(service.sessions) as session:
                session.execute(text("DELETE FROM class_probe"))
    for one, other in zip(*found, strict=True):
        assert one == about(other, rel=1e-4, abs_=1e-6)


def test_the_probe_of_reconstructions(monkeypatch):
    """The host waits once for each batch of them."""
    monkeypatch.setattr(class_probe, "_BATCH_ROWS", 16)
    rows, classes = make_rows(n_tokens=2, n_views=2)
    expected = probe_reconstruction(make_sae(0.3), ProbedRows.of(rows, make_sae().config), classes, CPU)
    n_rows = ProbedRows.of(rows, make_sae().config).holdout.shape[0]
    with EmulatedCuda() as cuda:
        sae = make_sae(0.3).to(CUDA)
        cuda.reset()
        found = probe_reconstruction(sae, ProbedRows.of(rows, sae.config), classes, CUDA)
        assert cuda.waits.total() == -(-n_rows // 16), cuda.waits
    assert found == expected


def test_an_imported_sae(service, monkeypatch, tmp_path):
    """Measured as on the CPU, and it comes back to the CPU before it is stored."""
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    plan = submitted(service, registered(Connections(), write_peer(tmp_path / "peer")))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    found = []
    with attempt(service, job_id(plan, "import")) as (request, context):
        import_sae(request, context)
        found += query(service, "SELECT * FROM sae")
        with transaction(service.sessions) as session:
            session.execute(text("DELETE FROM sae"))
        context.device = CUDA
        with EmulatedCuda():
            import_sae(request, context)
        found += query(service, "SELECT * FROM sae")
    expected, here = ({name: value for name, value in row.items() if name not in ("id", "created_at")} for row in found)
    assert here["weights_sha256"] == expected["weights_sha256"]
    assert here.keys() == expected.keys()
    for name, value in expected.items():
        assert here[name] == about(value, rel=1e-4, abs_=1e-6), name


def test_the_zero_shot_readout():
    """The text tower, the projection behind the last block, and what is read; one wait for a batch's logits."""
    words = ("dog", "cat", "fish", "qqqq")
    classes = [Synset(f"x{number}", word, (word,), "") for number, word in enumerate(words)]
    model = find_text_model(str(clip_folder()))
    spec = inspect_backbone(model.name)
    n_tokens = spec.n_prefix_tokens + spec.n_patches
    stream = torch.randn(5, n_tokens, spec.d_model, generator=torch.Generator().manual_seed(0))

    def readout_on(device):
        final = load_embedding(model.name, model.revision, device, None)
        return zero_shot_readout(TextTower.load(model, device), final.embedding_of, classes, device)

    expected = readout_on(CPU).read(stream)
    with EmulatedCuda() as cuda:
        readout = readout_on(CUDA)
        assert isinstance(readout.classes, EmulatedTensor)
        on_device = stream.to(CUDA)
        cuda.reset()
        found = readout.read(on_device)
        assert cuda.waits.total() == 1, cuda.waits
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(found.predicted, expected.predicted)
